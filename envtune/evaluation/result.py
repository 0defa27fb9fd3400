"""The numbers of one evaluation: rates by category with intervals, and the comparison of two runs."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from envtune.evaluation.records import Row
from envtune.evaluation.stats import Difference, cluster_means, paired_difference
from envtune.types import JSON, Category, Episode

METRICS = {"accuracy": "success", "strict_accuracy": "strict_success", "progress": "progress"}
"""Column with an interval -> field of a row."""


@dataclass(frozen=True)
class Result:
    """A finished evaluation."""

    config: JSON
    """Policy, protocol, data version, hash of the tasks; see `records.Header`."""
    rows: tuple[Row, ...]
    """One per task, in task order."""

    @property
    def policy(self) -> str:
        """Name of the policy."""
        return str(self.config["policy"])

    @property
    def episodes(self) -> list[Episode]:
        """The episodes, in task order."""
        return [row.episode for row in self.rows]

    @property
    def accuracy(self) -> float:
        """Share of tasks with the official verdict `success`."""
        return sum(row.success for row in self.rows) / len(self.rows)

    @property
    def turn_accuracy(self) -> float:
        """Share of correct turns among all user turns of all tasks; a turn that was never played is not correct."""
        return sum(row.correct_turns for row in self.rows) / sum(row.n_turns for row in self.rows)

    @cached_property
    def by_category(self) -> pd.DataFrame:
        """`table()` without its total row."""
        present = [category for category in Category if any(row.category is category for row in self.rows)]
        groups = {str(category): [row for row in self.rows if row.category is category] for category in present}
        return _frame(groups)

    def table(self) -> pd.DataFrame:
        """One line per category and a total.

        Columns: `n` tasks; `accuracy` (official), `strict_accuracy` (and no call in a turn that expects none) and
        `progress` (mean of R_P), each with `_low` and `_high`, the ends of a 95 % bootstrap interval over id numbers;
        `turn_accuracy`; `calls_per_turn` and `steps_per_turn`, over turns played; `error_rate`, the share of calls that
        failed (NaN without calls); `format_error_rate`, the share of steps that could not be parsed; `guarded_calls`.
        """
        return pd.concat([self.by_category, _frame({"all": list(self.rows)})])

    def __len__(self) -> int:
        return len(self.rows)


def compare(a: Result, b: Result, metric: str = "accuracy") -> Difference:
    """`a` minus `b` on the same tasks, with a 95 % interval and a p-value, both by id number.

    Args:
        a, b: two runs, in any order of their tasks.
        metric: `accuracy`, `strict_accuracy` or `progress`.

    Raises:
        ValueError: unknown metric, or runs over different tasks.
    """
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; known: {', '.join(METRICS)}")
    by_id = {row.task_id: row for row in b.rows}
    if alone := by_id.keys() ^ {row.task_id for row in a.rows}:
        raise ValueError(
            f"the runs do not share their tasks: {len(alone)} are in one only, such as {min(alone)}; "
            "evaluate both on the same tasks"
        )
    field = METRICS[metric]
    pairs = [(getattr(row, field), getattr(by_id[row.task_id], field)) for row in a.rows]
    return paired_difference([x for x, _ in pairs], [y for _, y in pairs], _numbers(a.rows))


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """`Result.table()` as text: percentages, each with its 95 % interval where it has one, in percent."""
    measures = [name for name in table.columns if not name.endswith(("_low", "_high"))]
    rows = [{name.replace("_", " "): _cell(row, name) for name in measures} for row in table.to_dict("records")]
    return pd.DataFrame(rows, index=table.index)


def _cell(row: Mapping[Hashable, Any], name: str) -> str:
    value = row[name]
    if name in ("n", "guarded_calls"):
        return f"{value:.0f}"
    if math.isnan(value):
        return "–"
    if f"{name}_low" in row:
        return f"{value:.1%} [{100 * row[f'{name}_low']:.1f}, {100 * row[f'{name}_high']:.1f}]"
    return f"{value:.2f}" if name.endswith("_per_turn") else f"{value:.1%}"


def _numbers(rows: Sequence[Row]) -> list[int]:
    return [int(row.task_id.rsplit("_", 1)[1]) for row in rows]


def _frame(groups: dict[str, list[Row]]) -> pd.DataFrame:
    return pd.DataFrame([_summary(rows) for rows in groups.values()], index=pd.Index(groups, name="category"))


def _summary(rows: Sequence[Row]) -> dict[str, float]:
    columns = [[float(getattr(row, field)) for row in rows] for field in METRICS.values()]
    estimates = cluster_means(columns, _numbers(rows))
    summary: dict[str, float] = {"n": len(rows)}
    for name, estimate in zip(METRICS, estimates, strict=True):
        summary |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}

    def total(field: str) -> int:
        return sum(getattr(row, field) for row in rows)

    return summary | {
        "turn_accuracy": total("correct_turns") / total("n_turns"),
        "calls_per_turn": _ratio(total("calls"), total("played_turns")),
        "steps_per_turn": _ratio(total("steps"), total("played_turns")),
        "error_rate": _ratio(total("failed_calls"), total("calls")),
        "format_error_rate": _ratio(total("format_errors"), total("steps")),
        "guarded_calls": total("guarded_calls"),
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
