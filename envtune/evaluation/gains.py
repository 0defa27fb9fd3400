"""What training changed: the same tasks played before and after, by category and by kind of request."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from envtune.data.synth import WAIT
from envtune.data.synth_kinds import KINDS
from envtune.evaluation.frames import rates
from envtune.evaluation.mistakes import lost_by
from envtune.evaluation.result import Result
from envtune.types import Task

SINGLE, NOTHING, BENCHMARK = "single requests", "nothing to call", "benchmark requests"


def request(kind: str) -> str:
    """What a turn of this kind asks for: a chain by its name, anything else by what it has in common."""
    if not kind:
        return BENCHMARK
    if kind == WAIT:
        return NOTHING
    return kind if KINDS[kind].chain else SINGLE


def turn_frame(result: Result, tasks: Sequence[Task]) -> pd.DataFrame:
    """One row per user turn: `task_id`, `number`, `category`, `turn`, `request`, `right`, `mistake`.

    Args:
        result: an evaluation of `tasks`.
        tasks: in any order.
    """
    by_id = {task.id: task for task in tasks}
    rows = []
    for episode in result.episodes:
        task = by_id[episode.task_id]
        for turn, kind in enumerate(task.kinds or [""] * task.n_turns):
            mistake = lost_by(task, episode, turn)
            rows.append(
                {
                    "task_id": task.id,
                    "number": task.number,
                    "category": str(task.category),
                    "turn": turn,
                    "request": request(kind),
                    "right": mistake is None,
                    "mistake": mistake and str(mistake),
                }
            )
    return pd.DataFrame(rows)


def gains(before: pd.DataFrame, after: pd.DataFrame, by: str) -> pd.DataFrame:
    """Turns right before and after, by group and in `all`, both with their 95 % intervals by id number.

    Args:
        before, after: of `turn_frame`, over the same tasks.
        by: `category` or `request`.

    Returns:
        Indexed by group, the best one after training first, `all` last: `turns`, `before`, `before_low`, `before_high`,
        `after`, `after_low`, `after_high`.
    """
    found = {}
    for name, frame in {"before": before, "after": after}.items():
        both = pd.concat([frame, frame.assign(**{by: "all"})])
        found[name] = rates(both, [by], "right").set_index(by)
    columns = {"turns": found["after"].n}
    for name, table in found.items():
        columns |= {name: table.rate, f"{name}_low": table.low, f"{name}_high": table.high}
    groups = pd.DataFrame(columns)
    ordered = groups.drop(index="all").sort_values(["after", "before"], ascending=False, kind="stable")
    return pd.concat([ordered, groups.loc[["all"]]])


def most_changed(before: Result, after: Result) -> int:
    """Index of the task whose progress grew most, the first of them."""
    grown = [b.progress - a.progress for a, b in zip(before.rows, after.rows, strict=True)]
    return grown.index(max(grown))
