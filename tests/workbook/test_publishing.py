"""Publishing copies what a reader sees of a finished run, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_markdown_cell, new_notebook
from stub_chapters import CHAPTERS
from stub_project import Project
from typer.testing import CliRunner

from envtune.cli import app
from envtune.workbook import folders, publishing
from envtune.workbook.errors import ParamsError, SeriesError
from envtune.workbook.params_file import resolve
from envtune.workbook.provenance import sha256_file
from envtune.workbook.publishing import publish
from envtune.workbook.series import alone

NAMES = [chapter.name for chapter in CHAPTERS]


def manifest(name: str, outputs: dict[str, str], **changes: Any) -> dict[str, Any]:
    return {
        "notebook": name,
        "run": "mine",
        "title": name,
        "question": f"What of {name}?",
        "key": "k",
        "answer": {"headline": "All.", "detail": "Of 4.", "results": []},
        "parameters": {"seed": 0},
        "seed": 0,
        "code": {"revision": "a" * 40, "dirty": False, "source_hash": "b" * 64},
        "python": "3.11.7",
        "versions": {},
        "data": {"bfcl-eval": "1"},
        "machine": {"system": "Linux", "cpu": "CPU", "cores": 2, "memory_gb": 8.0, "gpus": []},
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1.5,
        "peak_memory_mb": 100.0,
        "inputs": {},
        "outputs": outputs,
        "figures": [],
        **changes,
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    for name in NAMES:
        (tmp_path / f"notebooks/{name}.ipynb").write_text("{}")
    return tmp_path


@pytest.fixture
def run_dir(root: Path) -> Path:
    """A finished run with all that a run leaves."""
    folder = root / "results/mine"
    for name in NAMES:
        chapter = folder / name
        for inner in ("policy", "1_syntax"):
            (chapter / inner).mkdir(parents=True)
            (chapter / inner / "model.safetensors").write_text("weights")
        for file in ("t.csv", "f.png", "f.svg", "metrics.jsonl", "after.jsonl", "run.json", f"{name}.html", ".x.tmp"):
            (chapter / file).write_text(file)
        nbformat.write(new_notebook(cells=[new_markdown_cell("# T")]), chapter / f"{name}.ipynb")
        write(chapter)
    (folder / "index.html").write_text("with what only this run says")
    return folder


def write(chapter: Path, **changes: Any) -> None:
    files = ("t.csv", "f.png", "f.svg", "metrics.jsonl", "after.jsonl")
    outputs = {file: sha256_file(chapter / file) for file in files if (chapter / file).exists()}
    (chapter / "manifest.json").write_text(json.dumps(manifest(chapter.name, outputs, **changes)))


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_what_a_reader_sees_is_copied_and_nothing_else(root, run_dir):
    published = publish(run_dir, root, chapters=CHAPTERS)
    assert published == root / "results/published/mine"
    kept = ["f.png", "f.svg", "manifest.json", "metrics.jsonl", "t.csv"]
    wanted = [f"{name}/{file}" for name in NAMES for file in [*kept, f"{name}.html", f"{name}.ipynb"]]
    assert files(root / "results/published") == sorted(f"mine/{file}" for file in [*wanted, "index.html"])
    index = (published / "index.html").read_text()
    assert "What of 01_alpha?" in index and "run mine" in index
    assert len(files(run_dir)) > len(wanted) + 1, "the run stays as it is"

    (published / "01_alpha/old.csv").write_text("x")
    publish(run_dir, root, chapters=CHAPTERS)
    assert "01_alpha/old.csv" not in files(published), "the old copy is replaced, not mixed"


def refused(root: Path, run_dir: Path, **options: Any) -> str:
    with pytest.raises(SeriesError) as caught:
        publish(run_dir, root, chapters=CHAPTERS, **options)
    assert not (root / "results/published/mine").exists()
    return str(caught.value)


def test_an_unfinished_run(root, run_dir):
    (run_dir / "02_beta/02_beta.html").unlink()
    assert "not finished: 02_beta/02_beta.html missing" in refused(root, run_dir)
    bare = {"key": "k", "answer": {"headline": "All."}, "outputs": {}}
    (run_dir / "02_beta/manifest.json").write_text(json.dumps(bare))
    assert "run 'mine' is not finished: 02_beta missing" in refused(root, run_dir), "not the manifest of a chapter"
    write(run_dir / "02_beta", key=None)
    assert "run 'mine' is not finished: 02_beta missing" in refused(root, run_dir)
    assert "no run in" in refused(root, root / "results/none")


def test_what_is_no_run_is_refused_without_a_trace(root, run_dir, monkeypatch):
    for name in ("trained/train", "published"):
        (root / "results" / name).mkdir(parents=True)
    monkeypatch.chdir(root)
    before = files(root)
    for name in (".", "results", "results/trained", "results/published", "notebooks", ""):
        done = CliRunner().invoke(app, ["publish", name])
        assert done.exit_code == 1
        (line,) = done.stderr.splitlines()
        assert "holds no finished chapter and no experiment. Name a run" in line
    assert "01_alpha' holds no finished chapter" in refused(root, run_dir / "01_alpha"), "a chapter is no run"
    assert files(root) == before, "not even a lock"
    monkeypatch.chdir(run_dir)
    assert publish(Path(), root, chapters=CHAPTERS) == root / "results/published/mine", "`.` has a name"


def test_results_that_were_changed_or_do_not_belong_together(root, run_dir):
    write(run_dir / "02_beta", inputs={"01_alpha/manifest.json": "0" * 64})
    assert "02_beta (made from other results of 01_alpha)" in refused(root, run_dir)
    write(run_dir / "02_beta", inputs={"01_alpha/manifest.json": sha256_file(run_dir / "01_alpha/manifest.json")})
    (run_dir / "02_beta/after.jsonl").unlink()
    publish(run_dir, root, chapters=CHAPTERS)
    (run_dir / "02_beta/t.csv").write_text("changed")
    with pytest.raises(SeriesError, match=r"changed since the series ran: 02_beta/t\.csv"):
        publish(run_dir, root, chapters=CHAPTERS)


def test_other_code_other_data_and_local_changes(root, run_dir):
    code = {"revision": "c" * 40, "dirty": False, "source_hash": "d" * 64}
    write(run_dir / "02_beta", code=code)
    assert "made with different code: 01_alpha | 02_beta" in refused(root, run_dir)
    write(run_dir / "02_beta", data={"bfcl-eval": "2"})
    assert "made with different data: 01_alpha | 02_beta" in refused(root, run_dir)
    write(run_dir / "02_beta", code={"revision": "a" * 40, "dirty": True, "source_hash": "b" * 64})
    assert "local changes: 02_beta. Commit and run again, or give --allow-dirty" in refused(root, run_dir)
    publish(run_dir, root, chapters=CHAPTERS, allow_dirty=True)


@pytest.mark.parametrize("limit", ["MAX_FILE", "MAX_ALL"])
def test_too_large(root, run_dir, monkeypatch, limit):
    (run_dir / "01_alpha/f.png").write_bytes(b"x" * 2**20)
    write(run_dir / "01_alpha")
    monkeypatch.setattr(publishing, limit, 2**20 - 1)
    assert "The largest: 01_alpha/f.png 1.0 MiB, " in refused(root, run_dir)


def test_a_run_at_work_and_a_kill_between_the_renames(root, run_dir, monkeypatch):
    with alone(run_dir):
        assert "another series is at work on run 'mine'" in refused(root, run_dir)
    published = publish(run_dir, root, chapters=CHAPTERS)
    published.rename(published.with_name(".mine.old"))
    monkeypatch.setattr(folders, "swap", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publish(run_dir, root, chapters=CHAPTERS)
    assert (published / "index.html").exists(), "the copy before is put back"


def test_an_experiment(root, monkeypatch):
    monkeypatch.chdir(root)
    folder = root / "results/arms"
    (folder / "runs/ppo-0").mkdir(parents=True)
    (folder / "runs/ppo-0/model.safetensors").write_text("weights")
    for name in ("summary.csv", "requests.csv"):
        (folder / name).write_text("arm\n")
    (folder / "manifest.json").write_text(json.dumps(manifest("arms", {})))
    done = CliRunner().invoke(app, ["publish", "arms"])
    assert done.exit_code == 1
    assert "run 'arms' is not finished: curves.csv missing" in done.stderr
    (folder / "curves.csv").write_text("arm\n")
    done = CliRunner().invoke(app, ["publish", "arms"])
    assert done.exit_code == 0, done.output
    published = root / "results/published/arms"
    assert files(published) == ["curves.csv", "manifest.json", "requests.csv", "summary.csv"]
    with pytest.raises(SeriesError, match="is the published copy"):
        publish(published, root)
    for text in ("{", "3", "{}"):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(SeriesError, match=r"'arms/manifest\.json' is not a manifest of `envtune arms`"):
            publish(folder, root)


def test_no_run_may_be_named_published(project: Project):
    project.set(run="published")
    with pytest.raises(ParamsError, match="key 'run': got 'published', expected another name"):
        resolve({project.root / "notebooks/01_alpha.ipynb": CHAPTERS[0]}, {"run": "published"}, "p.yaml")


@pytest.mark.slow
def test_the_series_ends_with_how_it_compares_with_the_published_run(project: Project):
    said: list[str] = []
    project.run(echo=said.append)
    assert said[-1].startswith("report"), "nothing is published yet"
    assert "published" not in (project.run_dir / "index.html").read_text()
    publish(project.run_dir, project.root, allow_dirty=True, chapters=CHAPTERS)
    project.set(n=4)
    project.run(echo=said.append)
    assert (
        said[-1].split(maxsplit=2)[2] == "not reproduced: 0 numbers equal, 0 inside the published interval, 1 outside"
    )
    index = (project.run_dir / "index.html").read_text()
    assert "not reproduced: 0 numbers equal" in index
    assert "other parameters (n 4, published 3)" in index
    assert "<td" in index and "double" in index
