"""Does every way to fail get a hint? Compares the simulators' sources with the catalogue of failures, line by line.

In: nothing. Out: `coverage()`, one row per example, and `coverage_table()`, one row per domain. There are two kinds of
sites:

- *Statements*: lines of a source that say `"error"` or raise. `statements()` finds them in the syntax tree. A line that
  the catalogue does not reach must stand in `UNREACHABLE`, with the reason.
- *Raising lines*: lines that were not written to fail, but raise on arguments of a wrong type or size. Only a run finds
  them: a run of the catalogue's calls and, for every argument of every tool, of those of `ill_typed`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pandas as pd

from envtune.data import bfcl
from envtune.environment.hints import Hint, hint
from envtune.studies.failures import CATALOGUE, UNREACHABLE, Failure, Kind, Played, ill_typed, play


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of a simulator that reports an error."""

    domain: str
    function: str
    line: int
    end: int


@dataclass(frozen=True, slots=True)
class Trace:
    """The lines that one failing call ran inside the simulators."""

    played: Played
    lines: frozenset[int]
    """Lines executed, of the domain's source."""
    raised: int | None
    """Line from which an exception left the simulators."""


def source(domain: str) -> Path:
    """The file that defines a simulator."""
    folder = bfcl.package_dir() / "eval_checker" / "multi_turn_eval" / "func_source_code"
    return folder / f"{bfcl.TOOL_DOCS[domain]}.py"


def statements(domain: str) -> list[Statement]:
    """The statements of a simulator's source that hold an `"error"` key, an `"Error: "` text or a `raise`."""
    found = []
    for function in ast.walk(ast.parse(source(domain).read_text())):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Return | ast.Assign | ast.Raise) and _reports_error(node):
                    found.append(Statement(domain, function.name, node.lineno, node.end_lineno or node.lineno))
    return sorted(set(found), key=lambda statement: statement.line)


def _reports_error(node: ast.stmt) -> bool:
    if isinstance(node, ast.Raise):
        return True
    keys = [key for child in ast.walk(node) if isinstance(child, ast.Dict) for key in child.keys]
    if isinstance(node, ast.Assign):
        keys += [target.slice for target in node.targets if isinstance(target, ast.Subscript)]
    texts = [child.value for child in ast.walk(node) if isinstance(child, ast.Constant)]
    return any(isinstance(key, ast.Constant) and key.value == "error" for key in keys) or any(
        isinstance(text, str) and text.startswith("Error: ") for text in texts
    )


def trace(failure: Failure) -> Trace:
    """Play a failure and watch the lines of the domain's simulator."""
    watched = str(source(failure.domain))
    lines: set[int] = set()
    raised: list[int] = []

    def local(frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            lines.add(frame.f_lineno)
        elif event == "exception":
            raised.append(frame.f_lineno)
        return local

    def enter(frame: FrameType, _event: str, _argument: Any) -> Any:
        return local if frame.f_code.co_filename == watched else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        played = play(failure)
    finally:
        sys.settrace(before)
    left = played.result.text.startswith("Error during execution") and raised
    return Trace(played, frozenset(lines), raised[0] if left else None)


def explain(played: Played) -> Hint | None:
    """The hint for a played failure."""
    return hint(played.call, played.result, played.tools, played.observed)


def coverage(failures: Iterable[Failure] = CATALOGUE) -> pd.DataFrame:
    """One row per failure: `domain`, `call`, `kind`, `result`, `rule`, `hint`, `no_hint`, `lines`, `raised`."""
    rows = []
    for failure in failures:
        seen = trace(failure)
        found = explain(seen.played)
        rows.append(
            {
                "domain": failure.domain,
                "call": failure.call,
                "kind": str(failure.kind),
                "error": seen.played.result.error,
                "result": seen.played.result.text,
                "rule": found.rule if found else None,
                "hint": found.text if found else None,
                "no_hint": failure.no_hint,
                "lines": seen.lines,
                "raised": seen.raised,
            }
        )
    return pd.DataFrame(rows)


def coverage_table() -> pd.DataFrame:
    """One row per domain, and one for all.

    Columns: `statements` that report an error, `reached` by the catalogue, `listed as unreachable`, `raising lines`
    found by the catalogue and by ill-typed calls, `soft` failures, `sites` (reached, raising and soft together), sites
    `hinted` and `without hint`. A site counts as hinted if every example that ends there gets a hint.
    """
    rows = [_domain_row(domain) for domain in bfcl.TOOL_DOCS]
    table = pd.DataFrame(rows)
    total = table.drop(columns="domain").sum()
    return pd.concat([table, pd.DataFrame([{"domain": "all", **total}])], ignore_index=True)


def _domain_row(domain: str) -> dict[str, Any]:
    runs = coverage([*(f for f in CATALOGUE if f.domain == domain), *ill_typed(domain)])
    runs = runs[runs.error | (runs.kind == Kind.SOFT)]
    reporting = statements(domain)
    reached = {s: runs[[any(s.line <= n <= s.end for n in lines) for lines in runs.lines]] for s in reporting}
    ends = [group for group in reached.values() if len(group)]
    stated = {line for s in reporting for line in range(s.line, s.end + 1)}
    raising = [runs[runs.raised == line] for line in sorted(set(runs.raised.dropna().astype(int)) - stated)]
    soft = [group for _, group in runs[runs.kind == Kind.SOFT].groupby("call")]
    sites = [*ends, *raising, *soft]
    hinted = sum(bool(group.hint.notna().all()) for group in sites)
    return {
        "domain": domain,
        "statements": len(reporting),
        "reached": len(ends),
        "listed as unreachable": sum(where == domain for where, _ in UNREACHABLE),
        "raising lines": len(raising),
        "soft": len(soft),
        "sites": len(sites),
        "hinted": hinted,
        "without hint": len(sites) - hinted,
    }
