"""The numbers of a run by name, each with its known uncertainty.

In: the manifests of a run and the tables of its chapters. Out: `Number` by name. Numbers are the rows of an answer's
`results`, its other numbers, flattened (`separation.execution`), and table cells that have an interval.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envtune.workbook.manifest import Manifest, finished, read_experiment
from envtune.workbook.paths import MANIFEST

Table = Sequence[Mapping[str, str]]
SKIPPED = {"seed"}
"""Numbers of an answer that are not measured."""
KEYS = {"arm", "seed", "category", "request"}
"""Columns that name a row even if they hold numbers. Columns with text do as well."""
COUNTED = ("episodes", "n", "turns")
"""Columns with the n of a row's shares. The first that exists is used."""
SHARES = {"accuracy", "task_accuracy", "turn_accuracy", "progress"}
"""Columns that are compared without intervals, if their table has an n."""
TASKS: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("by_category", ("validation_tasks",), 4),
    ("waiting_turn", ("validation_tasks",), 2),
    ("learned.*BFCL", ("learned_bfcl_n",), 1),
    ("learned", ("synth_tasks",), 1),
    ("", ("validation_tasks", "n", "tasks"), 1),
)
"""The n of a share in an answer: a pattern of its name, the keys of n in answer or parameters, and n's divisor."""
Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Number:
    """One number of a run, with its known uncertainty."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    """Number of tasks, turns or trials behind a share or a count."""

    def interval(self) -> tuple[float, float] | None:
        """The published interval, else the binomial one. None if neither is known."""
        if self.low is not None and self.high is not None and self.low < self.high:
            return self.low, self.high
        if not self.n or not 0 <= self.value <= self.n:
            return None
        count = isinstance(self.value, int)
        if not count and self.value > 1:
            return None
        low, high = wilson(self.value / self.n if count else self.value, self.n)
        return (low * self.n, high * self.n) if count else (low, high)


@dataclass(frozen=True, slots=True)
class Source:
    """Manifest and tables of a chapter or an experiment."""

    manifest: Manifest
    tables: Mapping[str, Table]


def read_run(run_dir: Path) -> dict[str, Source]:
    """Complete chapter -> its manifest and tables. An experiment is one chapter."""
    chapters = finished(run_dir, sorted(path.parent.name for path in run_dir.glob("[0-9]*/manifest.json")))
    found = {name: Source(manifest, _tables(run_dir / name)) for name, manifest in chapters.items()}
    if (run_dir / MANIFEST).is_file():
        found[run_dir.name] = Source(read_experiment(run_dir), _tables(run_dir))
    return found


def _tables(folder: Path) -> dict[str, Table]:
    tables: dict[str, Table] = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            tables[path.stem] = list(csv.DictReader(file))
    return tables


def numbers(source: Source) -> dict[str, Number]:
    """All numbers of a chapter by name: of its answer's results, of its answer, and of its tables."""
    answer = source.manifest.get("answer", {})
    rows = answer["results"] if isinstance(answer.get("results"), list) else []
    found = {row["what"]: _finding(row) for row in rows if row["value"] is not None}
    shown = {number.value for number in found.values() if isinstance(number.value, float)}
    rest = {key: value for key, value in answer.items() if key not in SKIPPED and value is not rows}
    for name, number in _flatten(rest):
        if number.value not in shown:  # else it is already there, as a row of the results
            found[name] = number if number.low is not None else _with_tasks(name, number, source.manifest)
    for name, table in source.tables.items():
        found |= _of_table(name, table)
    return found


def _finding(row: Mapping[str, Any]) -> Number:
    """A row of the results. `n` bounds a share and a count, not a difference or a score."""
    n = row.get("n") if row.get("unit", "share") in ("share", "count") else None
    return Number(row["value"], row.get("low"), row.get("high"), n)


def _flatten(value: Any, name: str = "") -> Iterator[tuple[str, Number]]:
    """Numbers in nested mappings and lists, by dotted name. A list [value, low, high] is one number."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        yield name, Number(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flatten(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        if len(value) == 3 and all(isinstance(item, float) for item in value) and value[1] <= value[0] <= value[2]:
            yield name, Number(*value)
        else:
            yield from _flatten(dict(enumerate(value)), name)


def _with_tasks(name: str, number: Number, manifest: Manifest) -> Number:
    """A share of an answer with its number of tasks, if the manifest has it."""
    if isinstance(number.value, int):
        return number
    said = {**manifest["parameters"], **manifest["answer"]}
    _, keys, parts = next(row for row in TASKS if re.search(row[0], name))
    n = next((said[key] for key in keys if isinstance(said.get(key), int)), None)
    return Number(number.value, n=n // parts if n else None)


def _of_table(table: str, rows: Table) -> Iterator[tuple[str, Number]]:
    if not rows:
        return
    header = [name for name in rows[0] if name is not None]
    named = [name for name in header if name in KEYS or any(_number(row[name]) is None and row[name] for row in rows)]
    counted = next((name for name in COUNTED if name in header), "")
    columns = list(_measured(header, counted))
    for row in rows:
        label = ", ".join(row[name] for name in named if row[name])
        n = _number(row.get(counted))
        for column, low, high in columns:
            value = _number(row[column])
            if value is not None and column not in named:
                ends = _number(row.get(low)), _number(row.get(high))
                share = int(n) if (n and column in SHARES) or (n and low != "low" and 0 <= value <= 1) else None
                yield f"{table}: {label}, {column}", Number(value, *ends, share)


def _measured(header: Sequence[str], counted: str) -> Iterator[tuple[str, str, str]]:
    """Columns with a measured number, and the columns of its interval."""
    for at, column in enumerate(header):
        if f"{column}_low" in header and f"{column}_high" in header:
            yield column, f"{column}_low", f"{column}_high"
        elif header[at + 1 : at + 3] == ["low", "high"]:
            yield column, "low", "high"
        elif column in SHARES and counted and not any(name.endswith("low") for name in header):
            yield column, "", ""


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of `n` independent trials (Wilson 1927)."""
    middle = share + Z95**2 / (2 * n)
    half = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    return (middle - half) / (1 + Z95**2 / n), (middle + half) / (1 + Z95**2 / n)
