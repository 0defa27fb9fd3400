"""The work in a chapter's folder: what a run can go on with, and what happens to the rest.

In: a folder and the identity of what is about to run in it. Out: the same folder, with the files of an earlier run of
the same identity, or empty. Weights, checkpoints and episodes can take days to make, so they are never deleted. Work
that cannot go on is set aside: its folder gets a name that ends with `set-aside-1`, which is printed.

The identity is the code that makes numbers, the data, the parameters and the weights that enter. The computer, its
cores, the folder's place and the notebook's cells are not part of it: training (`run.json`) and evaluation (the first
line of its file) check for themselves what a cell gave them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from envtune import sources
from envtune.policy.checkpoint import fingerprint, local_folder
from envtune.workbook import provenance
from envtune.workbook.errors import SeriesError
from envtune.workbook.params import Chapter, Common
from envtune.workbook.paths import MANIFEST, relative

SERIES_CODE = "ENVTUNE_SERIES_CODE"
"""Environment variable of the kernels of a series: the hash of its code."""
RECORD = ".work.json"
"""File with the identity of a folder's work, and the machines that it was made on."""
SHOWN = {".csv", ".html", ".ipynb", ".png", ".svg"}
"""Kinds of files that a notebook makes again. Any other file is work."""
FREE = {"run", "results", "threads", "jobs", "batch_size", "machine", "launch", "trackio", "compare_tasks"}
"""Parameters in which a chapter may differ from those that it needs. They say how something runs, not what."""

Identity = dict[str, Any]
Echo = Callable[[str], None]


def identity(of: Chapter, params: Common, run_dir: Path, code: str) -> Identity:
    """What the work of a chapter depends on, as JSON.

    Args:
        of: the chapter.
        params: its parameters.
        run_dir: the run's folder, with the chapters that it needs.
        code: the hash of the code.
    """
    told = {
        "chapter": of.name,
        "code": code,
        "data": provenance.data_version(),
        "parameters": params.model_dump(exclude={"run", "results"}),
        "weights": weights(getattr(params, "policy", "")),
        "needs": {need: _policy(run_dir / need) for need in of.needs},
    }
    return dict(provenance.to_jsonable(told))


def weights(policy: str) -> str | None:
    """The hash of the weights in a folder. The weights of `tiny` are part of the code, and those on the hub are known
    by name."""
    folder = local_folder(policy) if policy else None
    return fingerprint(folder) if folder else None


def alone(of: Chapter, params: Common, folder: Path) -> None:
    """Prepare a notebook that runs without the series, as the series does before it starts one.

    Raises:
        SeriesError: see `check_need`.
    """
    code = provenance.source_hash()
    for need in of.needs:
        check_need(of.name, folder.parent / need, params, code)
    claim(folder, identity(of, params, folder.parent, code), print)


def check_code(of: str) -> None:
    """Refuse to run a notebook with other code than the series that started it, under whose name the results will be.

    Raises:
        SeriesError: the package was edited since the series began, or the kernel imports another installation.
    """
    expected = os.environ.get(SERIES_CODE)
    if expected and expected != sources.running():
        raise SeriesError(
            f"{of} runs the code in {sources.PACKAGE}, which is not the code that the series began with: the package "
            "was edited, or another envtune is installed. Run the series again, and leave the code as it is"
        )


def same_work(one: Path, other: Path) -> bool:
    """Whether two complete folders hold the same: made from the same, with the same policy."""
    return record(one).get("identity") == record(other).get("identity") and _policy(one) == _policy(other)


def _policy(folder: Path) -> dict[str, str]:
    """The policy that a chapter hands on: file -> hash."""
    outputs = _mapping(folder / MANIFEST).get("outputs", {})
    return {name: digest for name, digest in outputs.items() if name.startswith("policy/")}


def claim(folder: Path, mine: Identity, echo: Echo, *, keep: bool = True, clean: bool = False) -> None:
    """Make a folder ready: what it holds is work of this identity, or no work at all.

    Args:
        folder: the chapter's folder.
        mine: what is about to run.
        echo: takes a line if something is set aside.
        keep: go on with work of the same identity. False: begin from scratch.
        clean: delete what the notebook makes again, because other cells may make other files.
    """
    made = record(folder)
    same = keep and made.get("identity") == mine
    if clean and same:
        for path in (path for path in folder.iterdir() if path.suffix in SHOWN):
            path.unlink()
    if not same and (clean or holds_work(folder)):
        put_away(folder, echo, _difference(made.get("identity", {}), mine) if keep else "this run begins from scratch")
    folder.mkdir(parents=True, exist_ok=True)
    machines, here = made.get("machines", []) if same else [], provenance.machine()
    machines += [here] if here not in machines else []
    provenance.write_json(folder / RECORD, {"identity": mine, "machines": machines})


def record(folder: Path) -> dict[str, Any]:
    """The identity of a folder's work and its machines. Empty if it does not say so."""
    return _mapping(folder / RECORD) or dict(_mapping(folder / MANIFEST).get("work", {}))


def holds_work(folder: Path) -> bool:
    """Whether a folder holds more than a notebook makes again. Hidden files directly in it do not count."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in SHOWN)
    return any(path.parent != folder or not path.name.startswith((".", MANIFEST)) for path in files)


def put_away(folder: Path, echo: Echo, reason: str) -> None:
    """Set a folder with work aside, and print its new name. Delete a folder without work."""
    if not holds_work(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    name, number = folder.name.lstrip(".").removesuffix(".old").removesuffix(".partial"), 1
    while (aside := folder.with_name(f".{name}.set-aside-{number}")).exists():  # hidden, so it is taken for no chapter
        number += 1
    folder.rename(aside)
    echo(f"set aside: {name} is now {relative(aside)} ({reason}). Delete it when it is no longer needed")


def _difference(made: Identity, mine: Identity) -> str:
    """Why work of one identity is no part of another."""
    if not made:
        return "it does not say what made it"
    if told := _other_parameter(made["parameters"], mine["parameters"]):
        return told
    words = {"code": "other code made it", "data": "made with other data", "weights": "made from other weights"}
    return next((text for key, text in words.items() if made[key] != mine[key]), "made from another policy")


def _other_parameter(made: dict[str, Any], mine: dict[str, Any], free: frozenset[str] = frozenset()) -> str:
    """The first of the parameters in both that differs, in words. Empty if there is none."""
    for name in sorted((made.keys() & mine.keys()) - free):
        if made[name] != mine[name]:
            was, now = json.dumps(made[name]), json.dumps(mine[name])
            return f"{name} was {was}, now {now}" if len(was + now) < 100 else f"made with another `{name}`"
    return ""


def check_need(of: str, need: Path, params: Common, code: str, free: frozenset[str] = frozenset(FREE)) -> None:
    """Refuse results of an earlier chapter that were not made with these parameters, this code and this data.

    Args:
        of: the chapter that is about to run.
        need: the folder of the earlier one.
        params: those that it shares with the earlier one must agree.
        code: the hash of the code.
        free: parameters that may differ.

    Raises:
        SeriesError: they were not. One line says what differs and what to run.
    """
    manifest = _mapping(need / MANIFEST)
    told = _other_parameter(manifest["parameters"], provenance.to_jsonable(params.model_dump()), free)
    if not told and manifest["code"]["source_hash"] != code:
        told = "other code made it"
    if not told and manifest["data"] != provenance.data_version():
        told = "made with other data"
    if told:
        raise SeriesError(f"{of} builds on {need.name}, which is of another run: {told}. Run {need.name} again first")


def _mapping(path: Path) -> dict[str, Any]:
    """What a JSON file holds. Empty if it is missing or no mapping."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
