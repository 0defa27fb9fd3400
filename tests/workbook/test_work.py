"""What a series that was stopped can go on with. The rest is kept under another name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stub_project import ALPHA_WORK

from envtune.workbook import kernel, provenance


class StoppedError(Exception):
    pass


@pytest.fixture
def stopped(project, monkeypatch):
    """Runs the series, whose first notebook is stopped after it has trained. Says what it found and what was said."""

    def train(notebook: Path, output: Path, *_: object, **__: object) -> None:
        weights = output.parent / "1_stage/checkpoint-2/model.safetensors"
        found.append(sorted(path.name for path in output.parent.rglob("*") if path.suffix))
        weights.parent.mkdir(parents=True, exist_ok=True)
        weights.write_text(f"weights {len(found)}")
        (output.parent / "course.png").write_text("a figure")
        raise StoppedError

    def run(**options: object) -> tuple[list[str], list[str]]:
        said: list[str] = []
        with pytest.raises(StoppedError):
            project.run(echo=said.append, **options)
        return found[-1], [line for line in said if line.startswith("set aside")]

    found: list[list[str]] = []
    monkeypatch.setattr(kernel, "execute", train)
    return run


def test_a_stopped_run_goes_on_on_another_computer_in_another_place_and_with_another_plot(
    project, stopped, monkeypatch, tmp_path
):
    assert stopped() == ([".work.json"], [])
    monkeypatch.setattr(provenance, "machine", lambda: {"cpu": "another", "cores": 1})
    project.alpha(ALPHA_WORK, "'another plot'")
    project.root = (tmp_path / "notebooks").parent.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    assert stopped() == ([".work.json", "model.safetensors"], []), "the figure is made again, the weights are not"
    record = json.loads((project.run_dir / ".01_alpha.partial/.work.json").read_text())
    assert [machine["cores"] for machine in record["machines"]][1:] == [1], "it says where it was made"


def test_work_that_cannot_go_on_is_set_aside_under_a_printed_name(project, stopped, monkeypatch):
    monkeypatch.chdir(project.root)
    stopped()

    def set_aside(number: int, why: str, **options: object) -> None:
        name = f"results/test/.01_alpha.set-aside-{number}"
        line = f"set aside: 01_alpha is now {name} ({why}). Delete it when it is no longer needed"
        assert stopped(**options) == ([".work.json"], [line])
        kept = project.root / name / "1_stage/checkpoint-2/model.safetensors"
        assert kept.read_text() == f"weights {number}"

    project.set(n=4)
    set_aside(1, "n was 3, now 4")
    monkeypatch.setattr(provenance, "source_hash", lambda: "changed")
    set_aside(2, "other code made it")
    monkeypatch.setattr(provenance, "data_version", lambda: {"bfcl-eval": "0"})
    set_aside(3, "made with other data")
    (project.run_dir / ".01_alpha.partial/.work.json").unlink()
    set_aside(4, "it does not say what made it")
    set_aside(5, "this run begins from scratch", force=True)
