"""Nothing that runs touches a file that git tracks: neither the series nor a notebook that is open in JupyterLab."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from stub_project import ROOT, Project

slow = pytest.mark.slow
MINE = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org"}
MINE |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org"}


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, env=os.environ | MINE, check=True, capture_output=True, text=True).stdout


def commit(root: Path) -> None:
    """Everything there, and two published runs, in a repository with the project's `.gitignore`."""
    shutil.copy(ROOT / ".gitignore", root)
    for run in ("test", "tiny"):
        kept = root / f"results/published/{run}/01_data_prep"
        kept.mkdir(parents=True)
        (kept / "manifest.json").write_text("{}")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "all")


@slow
def test_the_series_leaves_the_clone_clean(project: Project) -> None:
    project.beta()
    commit(project.root)
    project.run()
    assert (project.run_dir / "02_beta/manifest.json").exists()
    assert git(project.root, "status", "--porcelain") == ""


@slow
@pytest.mark.parametrize("name", ["01_data_prep", "02_environment"])
def test_the_first_cells_of_a_notebook_in_jupyterlab_leave_the_clone_clean(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters as they stand, so under the name of a published run."""
    (tmp_path / "params").mkdir()
    (tmp_path / "notebooks").mkdir()
    source = tmp_path / f"notebooks/{name}.ipynb"
    shutil.copy(ROOT / f"notebooks/{name}.ipynb", source)
    commit(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(source, as_version=4)
    notebook.cells = notebook.cells[:3]
    assert all(cell.cell_type == "code" for cell in notebook.cells[1:])
    NotebookClient(notebook, resources={"metadata": {"path": str(source.parent)}}).execute()
    assert (tmp_path / f"results/tiny/{name}").is_dir(), "where the notebook writes"
    assert git(tmp_path, "status", "--porcelain") == ""


def test_no_tracked_file_lies_where_runs_write() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = git(ROOT, "ls-files", "results").splitlines()
    assert tracked
    assert [name for name in tracked if not name.startswith("results/published/")] == []
