"""Which code made a number? Hashes over the files of the package that decide it.

A run goes on with the code that began it. The code that only shows, copies or starts something is not part of the hash,
so a new stylesheet or another command makes no result stale. A file that no list names counts: a new module is part of
the hash until somebody adds it here (`tests/test_sources.py` names what is in and what is out).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent

SHOWS = (
    "__main__.py",
    "cli",
    "cold_start",  # made the shipped weights, which are files of `policy` and count
    "differences.py",
    "display",
    "extras.py",
    "locks.py",
    "processes.py",
    "py.typed",
    "system.py",
    *(f"training/{name}.py" for name in ("bench", "bench_step", "budget", "check", "cost")),
    *(f"workbook/{name}.py" for name in ("card", "conversation", "doctor", "errors", "figures", "findings", "folders")),
    *(f"workbook/{name}.py" for name in ("frontend", "injected", "live", "manifest", "mathtext", "measured")),
    *(f"workbook/{name}.py" for name in ("overview", "paths", "provenance", "reading")),
    *(f"workbook/{name}.py" for name in ("publishing", "report", "reproduction", "scoring", "series", "trained")),
    "workbook/work.py",
)
"""Files and folders that make no number of a run. Nor do files ending with `SHOWN`."""
SHOWN = (".css", ".html", ".md", ".js")
EPISODES = (
    *("types.py", "fastjson.py", "chat.py", "rewards.py", "data", "environment", "policy"),
    *("evaluation/evaluate.py", "evaluation/records.py"),
)
"""Files and folders that decide how an episode goes and how it is scored."""
TRAINING = (*EPISODES[:-2], "training")
"""Files and folders that decide how a policy is trained."""


def source_hash(package: Path = PACKAGE, only: Sequence[str] = ("",)) -> str:
    """One hash over the files that make numbers: names and contents of sources, tables, the shipped weights.

    Args:
        package: the folder of the package.
        only: files and folders in it, such as `EPISODES`. Default: everything.
    """
    found = {name: _sha256(package / name) for name in numbers(package) if _within(name, only)}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


@cache
def running(only: Sequence[str] = ("",)) -> str:
    """`source_hash` of this package as it was when first asked for, because this process goes on with that code."""
    return source_hash(PACKAGE, only)


def numbers(package: Path = PACKAGE) -> Iterator[str]:
    """Relative paths of the files that make numbers."""
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package).as_posix()
        if path.is_file() and "__pycache__" not in path.parts and not (name.endswith(SHOWN) or _within(name, SHOWS)):
            yield name


def _within(name: str, places: Sequence[str]) -> bool:
    return any(place in ("", name) or name.startswith(f"{place}/") for place in places)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
