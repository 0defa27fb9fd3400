"""Which code counts: a stylesheet makes no result stale, the environment does."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from envtune import sources
from envtune.sources import EPISODES, PACKAGE, SHOWS, TRAINING, source_hash

FOLDERS = ("cli", "cold_start", "display", "training", "workbook")
"""Rooms with files of both kinds, or with none that counts."""
IN = {
    "training": {
        "__init__",
        "arms",
        "batches",
        "curriculum",
        "engine",
        "fields",
        "folders",
        "grpo",
        "identity",
        "launch",
        "machine",
    }
    | {"metrics", "plan", "ppo", "recipes", "rollout", "train", "watch"},
    "workbook": {"__init__", "experiment", "kernel", "learning", "notebook", "params", "params_file", "plan"},
}
OUT = {"cli", "differences", "display", "extras", "locks", "processes", "system", "__main__"}
SHARED = {f"envtune.{name}" for name in OUT - {"cli", "__main__"}}
"""Modules without numbers that those with numbers may import outside of the workbook."""


def test_what_is_in_and_what_is_out():
    counted = [Path(name) for name in sources.numbers()]
    for folder in FOLDERS:
        found = {path.stem for path in counted if path.parts[0] == folder}
        assert found == IN.get(folder, set()), f"{folder}: list a new file in sources.SHOWS, or here"
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    whole = rooms - set(FOLDERS)
    for path in (path for room in whole for path in (PACKAGE / room).rglob("*.py")):
        assert path.relative_to(PACKAGE) in counted
    assert {path.stem for path in PACKAGE.glob("*.py")} - {path.stem for path in counted if len(path.parts) == 1} <= OUT
    assert "policy/tiny/weights/model.safetensors" in map(str, counted)
    assert not [path for path in counted if path.suffix in sources.SHOWN]
    assert not [name for name in (*SHOWS, *EPISODES, *TRAINING) if not (PACKAGE / name).exists()]


def test_what_makes_numbers_imports_nothing_that_does_not_count():
    """The workbook's own modules begin and end a notebook, so they also show."""
    out = {f"envtune.{name.removesuffix('.py').replace('/', '.')}" for name in SHOWS} - SHARED
    for name in sources.numbers():
        if name.endswith(".py") and not name.startswith("workbook/"):
            for node in ast.walk(ast.parse((PACKAGE / name).read_text())):
                imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                imported += [node.module] if isinstance(node, ast.ImportFrom) else []
                assert not out.intersection(imported), f"{name} imports {out.intersection(imported)}"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return shutil.copytree(PACKAGE, tmp_path / "envtune", ignore=shutil.ignore_patterns("__pycache__"))


def test_the_hash_changes_with_the_code_that_makes_numbers_and_with_no_other(package):
    scopes = {"all": ("",), "episodes": EPISODES, "training": TRAINING}

    def changed(name: str) -> set[str]:
        before = {scope: source_hash(package, only) for scope, only in scopes.items()}
        with (package / name).open("a") as file:
            file.write("\n# changed\n")
        return {scope for scope, only in scopes.items() if source_hash(package, only) != before[scope]}

    shows = ("workbook/page.css", "workbook/report.py", "workbook/card.md", "display/view.py", "training/bench.py")
    for shown in shows:
        assert changed(shown) == set(), shown
    for everything in ("environment/hints.py", "rewards.py", "policy/tiny/weights/config.json", "data/bfcl.py"):
        assert changed(everything) == {"all", "episodes", "training"}, everything
    assert changed("training/grpo.py") == {"all", "training"}
    assert changed("evaluation/records.py") == {"all", "episodes"}
    assert changed("evaluation/stats.py") == {"all"}
    assert changed("workbook/params.py") == {"all"}
