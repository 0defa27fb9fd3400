"""What training changed: the same tasks played before and after, by category and by kind of request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from envtune.data.synth import WAIT
from envtune.data.synth_kinds import KINDS
from envtune.evaluation.frames import rates
from envtune.evaluation.mistakes import lost_by
from envtune.evaluation.result import METRICS, Result
from envtune.types import Task

CHAIN, SINGLE, NOTHING, BENCHMARK = "chains", "single requests", "nothing to call", "benchmark requests"


def request_type(kind: str) -> str:
    """What a turn of this kind asks for, in general; a task of the benchmark has no kinds."""
    if not kind:
        return BENCHMARK
    if kind == WAIT:
        return NOTHING
    return CHAIN if KINDS[kind].chain else SINGLE


def turn_frame(result: Result, tasks: Sequence[Task]) -> pd.DataFrame:
    """One row per user turn: `task_id`, `number`, `category`, `turn`, `type`, `request`, `right`, `mistake`.

    `type` is `chains`, `single requests`, `nothing to call` or `benchmark requests`; `request` is the kind of a chain,
    for anything else the type.

    Args:
        result: an evaluation of `tasks`.
        tasks: in any order.
    """
    by_id = {task.id: task for task in tasks}
    rows = []
    for episode in result.episodes:
        task = by_id[episode.task_id]
        for turn, kind in enumerate(task.kinds or [""] * task.n_turns):
            mistake, general = lost_by(task, episode, turn), request_type(kind)
            rows.append(
                {
                    "task_id": task.id,
                    "number": task.number,
                    "category": str(task.category),
                    "turn": turn,
                    "type": general,
                    "request": kind if general == CHAIN else general,
                    "right": mistake is None,
                    "mistake": mistake and str(mistake),
                }
            )
    return pd.DataFrame(rows)


def gains(before: pd.DataFrame, after: pd.DataFrame, by: str) -> pd.DataFrame:
    """Turns right before and after, by group and in `all`, both with their 95 % intervals by id number.

    Args:
        before, after: of `turn_frame`, over the same tasks.
        by: `category`, `type` or `request`.

    Returns:
        Indexed by group, the best one after training first, `all` last: `n` turns; `before` and `after`, each with
        `_low` and `_high`.
    """
    found = {}
    for name, frame in {"before": before, "after": after}.items():
        both = pd.concat([frame, frame.assign(**{by: "all"})])
        found[name] = rates(both, [by], "right").set_index(by)
    columns = {"n": found["after"].n}
    for name, table in found.items():
        columns |= {name: table.rate, f"{name}_low": table.low, f"{name}_high": table.high}
    groups = pd.DataFrame(columns)
    ordered = groups.drop(index="all").sort_values(["after", "before"], ascending=False, kind="stable")
    return pd.concat([ordered, groups.loc[["all"]]])


def most_changed(before: Result, after: Result) -> int:
    """Index of the task whose progress grew most, the first of them."""
    grown = [b.progress - a.progress for a, b in zip(before.rows, after.rows, strict=True)]
    return grown.index(max(grown))


def scores(results: Mapping[str, Mapping[str, Result]], frames: Mapping[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
    """Several policies on several sets of tasks, by category and in `all`.

    Args:
        results: set -> policy -> evaluation.
        frames: (set, policy) -> `turn_frame`.

    Returns:
        Indexed by `tasks` (the set), `policy` and `category`: `n`, `turns_right`, `chain_turns_right` (NaN without
        chains), `accuracy`, `strict_accuracy` and `progress`, each but the first with `_low` and `_high`.
    """
    tables = {}
    for (name, policy), frame in frames.items():
        table = results[name][policy].table()
        turns = _turns(frame, "turns_right").join(_turns(frame[frame.type == CHAIN], "chain_turns_right"))
        ends = [f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]
        tables[name, policy] = table[["n"]].join(turns).join(table[ends])
    return pd.concat(tables, names=["tasks", "policy", "category"])


def _turns(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Turns right by category and in `all`, as the column `name` with its interval."""
    columns = {"rate": name, "low": f"{name}_low", "high": f"{name}_high"}
    if frame.empty:
        return pd.DataFrame(columns=list(columns.values()), dtype=float)
    both = pd.concat([frame, frame.assign(category="all")])
    return rates(both, ["category"], "right").set_index("category")[list(columns)].rename(columns=columns)
