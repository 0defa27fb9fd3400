"""The notebooks as sources: their form, and that each runs the three ways it is meant to run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import nbformat
import papermill
import psutil
import pytest
import yaml

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
    assert len(NOTEBOOKS) == 7


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


def papermill_smoke(path: Path, results: Path, params: str | Path = "params/smoke.yaml") -> dict:
    """`papermill notebooks/NN.ipynb out.ipynb -f params/smoke.yaml`, from the project's root; the manifest."""
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(path.relative_to(ROOT))]
    command += [str(results / f"{path.stem}.ipynb"), "-f", str(params), "-p", "results", str(results)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300)
    manifest = json.loads((results / "smoke" / path.stem / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    answer = manifest["answer"]
    assert 2 <= len(re.findall(r"\d+(?:[.,]\d+)*", answer["headline"])) <= 3, answer["headline"]
    assert not {"nan", "nan%"} & set(f"{answer['headline']} {answer['detail']}".split())
    assert answer["results"]
    assert manifest["figures"]
    return dict(manifest)


ALONE = [path for path in NOTEBOOKS if path.stem[:2] in ("01", "02", "03", "07")]
TRAINING = [path for path in NOTEBOOKS if path not in ALONE]


@pytest.mark.slow
@pytest.mark.parametrize("path", ALONE, ids=by_name)
def test_papermill_with_the_smoke_parameters(path, tmp_path):
    papermill_smoke(path, tmp_path)


STEPS, SAVED = 4, 2
KEPT = (1 + STEPS) + (1 + SAVED)
"""Lines of the first stage, its validation at step 0 among them, and of the second up to its checkpoint."""


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A parameter file of a few steps, and the folder of its results."""
    folder = tmp_path_factory.mktemp("training")
    values = yaml.safe_load((ROOT / "params/smoke.yaml").read_text()) | {"results": str(folder)}
    values["override"] |= {"steps": STEPS}
    values["schedule"] |= {"save_every": SAVED}
    (folder / "smoke.yaml").write_text(yaml.safe_dump(values))
    return folder / "smoke.yaml", folder


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.xdist_group("training")
def test_a_killed_training_goes_on_from_its_checkpoint(training):
    """The series is killed in the second stage of notebook 04; the next run, with fewer cores, keeps what came before
    the checkpoint."""
    params, results = training
    command = [sys.executable, "-c", "from envtune.cli import main; main()", "run", str(params), "--only", "04"]
    partial = results / "smoke/.04_stage1_training.partial"
    first = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while lines_in(partial / "metrics.jsonl") < KEPT + 1:  # the checkpoint is whole once the next step is done
            assert time.monotonic() < deadline, "no checkpoint came"
            assert first.poll() is None, "it ended by itself"
            time.sleep(0.05)
    finally:
        for process in [*first.children(recursive=True), first]:  # the kernel, too, which would go on for a second
            process.kill()
            process.wait()
    before = (partial / "metrics.jsonl").read_text().splitlines()
    assert not list(partial.glob("2_*/done.json")), "it was killed before the stage ended"
    on_one_core = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
    subprocess.run([*on_one_core, *command], cwd=ROOT, check=True, capture_output=True, timeout=300)
    after = (results / "smoke/04_stage1_training/metrics.jsonl").read_text().splitlines()
    assert len(after) == 2 * (1 + STEPS)
    assert after[:KEPT] == before[:KEPT], "what was before the checkpoint was not trained again"
    assert "up to date" in subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.xdist_group("training")
def test_papermill_builds_on_what_was_trained(training):
    """04, 05 and 06 in order, each on what the one before left; 04 goes on with what the series trained."""
    params, results = training
    first, second, last = (results / "smoke" / path.stem for path in TRAINING)
    trained = (first / "metrics.jsonl").read_text() if first.exists() else None
    manifests = {path.stem: papermill_smoke(path, results, params) for path in TRAINING}
    assert trained in (None, (first / "metrics.jsonl").read_text()), "finished stages are not trained again"
    for folder in (first, second):
        assert (folder / "policy/model.safetensors").exists()
        assert not list(folder.rglob("checkpoint-*"))
    assert "04_stage1_training/policy/model.safetensors" in manifests[second.name]["inputs"]
    assert {name.split("/")[0] for name in manifests[last.name]["inputs"]} == {first.name, second.name}


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
