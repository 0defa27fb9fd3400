"""The notebooks as sources: their form, and that each runs the three ways it is meant to run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import nbformat
import papermill
import pytest

from envtune.workbook.params import CHAPTERS

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CODE_LINES = 12


def by_name(path: Path) -> str:
    return path.stem


def test_every_notebook_is_a_chapter():
    assert [path.stem for path in NOTEBOOKS] == [
        c.name for c in CHAPTERS if (ROOT / f"notebooks/{c.name}.ipynb").exists()
    ]
    assert {"01_data_prep", "02_environment", "03_reward_design", "06_evaluation"} <= {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_form(path):
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith(f"# {path.stem[:2]} · ")
    assert cells[0].source.splitlines()[0].endswith("?"), "the title is the question"
    assert "needs no GPU" in cells[0].source or "GPU" in cells[0].source, "say run time, memory and GPU"
    tagged = [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == [1]
    assert all("  # " in line for line in cells[1].source.splitlines()), "a comment per parameter"
    assert (
        f'workbook.begin(\n    "{path.stem}"' in cells[2].source or f'workbook.begin("{path.stem}"' in cells[2].source
    )
    assert cells[-1].source.rstrip().endswith(")")
    assert "nb.finish(" in cells[-1].source
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(cell.execution_count is None and not cell.outputs for cell in code)
    assert not any(line.startswith(("def ", "class ")) for cell in code for line in cell.source.splitlines())
    assert median(len(cell.source.splitlines()) for cell in code[2:]) <= CODE_LINES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_parameters_are_those_of_the_model(path):
    (chapter,) = [c for c in CHAPTERS if c.name == path.stem]
    assert set(papermill.inspect_notebook(str(path))) == set(chapter.model.model_fields)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_papermill_with_the_smoke_parameters(path, tmp_path):
    """`papermill notebooks/NN.ipynb out.ipynb -f params/smoke.yaml`, from the project's root."""
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--no-progress-bar",
        str(path.relative_to(ROOT)),
        str(tmp_path / "o.ipynb"),
    ]
    command += ["-f", "params/smoke.yaml", "-p", "results", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300)
    manifest = json.loads((tmp_path / "smoke" / path.stem / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert manifest["answer"]["sentence"]
    assert manifest["figures"]


@pytest.mark.slow
def test_top_to_bottom_as_in_jupyterlab(tmp_path):
    """Started in `notebooks/`, defaults as they stand; results go to the project's folder, here a stand-in of it."""
    (tmp_path / "params").mkdir()
    (tmp_path / "notebooks").mkdir()
    source = tmp_path / "notebooks/01_data_prep.ipynb"
    source.write_bytes((ROOT / "notebooks/01_data_prep.ipynb").read_bytes())
    command = [sys.executable, "-m", "jupyter", "execute", source.name]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=source.parent, env=environment, check=True, capture_output=True, timeout=300)
    assert (tmp_path / "results/tiny/01_data_prep/manifest.json").exists()
