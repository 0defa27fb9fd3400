"""Findings: the rows of a results table, in a notebook's answer box, in its manifest and in the README."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Unit = Literal["share", "points", "count", "score"]

MAX_WORDS = 20
"""Longest `what`, so that a table is read at a glance."""
COLUMNS = ("What", "Result", "Baseline", "95 % interval", "n")
FORMATS: Mapping[Unit, tuple[str, float, str]] = {
    "share": (".1f", 100, "%"),
    "points": ("+.1f", 100, " pp"),
    "count": (",.0f", 1, ""),
    "score": (".2f", 1, ""),
}
"""Unit -> format of a number, its factor, and what stands after it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A measured number and what it must be compared with.

    Raises:
        ValueError: `what` has more than `MAX_WORDS` words or none.
    """

    what: str
    """What was measured on what; it also says what the baseline is."""
    value: float | None
    baseline: float | None = None
    low: float | None = None
    """Lower end of the 95 % interval of `value`."""
    high: float | None = None
    n: int | None = None
    """How many tasks, turns, pairs, calls or seeds `value` is made from."""
    unit: Unit = "share"
    """`share`: 0 to 1, shown in percent; `points`: a difference of shares, shown in percentage points."""

    def __post_init__(self) -> None:
        words = len(self.what.split())
        if not 0 < words <= MAX_WORDS:
            raise ValueError(f"'{self.what}' has {words} words; a finding is named by 1 to {MAX_WORDS}")


def cells(finding: Mapping[str, Any]) -> list[str]:
    """A finding, as the manifest holds it, as the texts of `COLUMNS`; a dash where there is no number."""
    unit: Unit = finding["unit"]
    low, high = (_number(finding[end], unit) for end in ("low", "high"))
    known = "–" not in (low, high) and low != high
    interval = f"{low.removesuffix(FORMATS[unit][2])} to {high}" if known else "–"
    return [
        str(finding["what"]),
        _number(finding["value"], unit),
        _number(finding["baseline"], unit),
        interval,
        _number(finding["n"], "count"),
    ]


def _number(value: float | None, unit: Unit) -> str:
    if value is None or value != value:  # NaN is not itself
        return "–"
    wanted, factor, after = FORMATS[unit]
    return f"{factor * value:{wanted}}{after}"
