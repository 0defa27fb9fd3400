"""The folders of a run: what its stages handed on, their checkpoints, and how a folder is replaced in one step.

In: paths, and a plan's stages. Out: paths. Several processes, or a later one, read here how far a run has come.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from envtune.training.curriculum import Stage
from envtune.training.identity import write_json

DONE = "done.json"
"""In the folder of a finished stage. Names the weights that it hands on."""


def stage_folder(out: Path, stages: Sequence[Stage], number: int) -> Path:
    """The folder of a stage, `<out>/<n>_<stage>`."""
    return out / f"{number + 1}_{stages[number].name}"


def handed_on(out: Path, stages: Sequence[Stage]) -> list[Path]:
    """The weights that the finished stages handed on, up to the first stage that is not finished."""
    found: list[Path] = []
    for number in range(len(stages)):
        folder = stage_folder(out, stages, number)
        if not (folder / DONE).exists():
            break
        found.append(folder / str(json.loads((folder / DONE).read_text())["policy"]))
    return found


def finish(folder: Path, kept: str) -> None:
    """Mark a stage as finished, with the name of the folder that it hands on. Its checkpoints are deleted."""
    write_json(folder / DONE, {"policy": kept})
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint: `trainer_state.json` is written last."""
    complete = [path for path in folder.glob("checkpoint-*") if _is_json(path / "trainer_state.json")]
    return max(complete, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return True


def replace_folder(source: Path, target: Path) -> None:
    """Make `target` a copy of `source`, in one step."""
    temporary = target.with_name(f".{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary)
    move_folder(temporary, target)


def move_folder(source: Path, target: Path) -> None:
    """Replace `target`. After a kill between the two renames, `put_back` restores the old one."""
    old = target.with_name(f".{target.name}.old")
    put_back(target)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    source.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def put_back(target: Path) -> None:
    """Restore a folder that a kill left between two renames."""
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():
        old.rename(target)
