"""What training changed: the same tasks before and after, by category and by kind of request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from envtune.data.synth_kinds import KINDS
from envtune.evaluation.frames import rates
from envtune.evaluation.mistakes import lost_by
from envtune.evaluation.result import METRICS, Result
from envtune.types import JSON, Task

CHAIN, SINGLE, NOTHING, BENCHMARK = "chains", "single requests", "nothing to call", "benchmark requests"


def _type(task: Task, turn: int) -> str:
    """What a turn asks for, in general. A task of the benchmark has no kinds."""
    if not task.ground_truth[turn]:
        return NOTHING
    if not task.kinds:
        return BENCHMARK
    return CHAIN if KINDS[task.kinds[turn]].chain else SINGLE


def asked(tasks: Sequence[Task]) -> pd.DataFrame:
    """One row per user turn: `task_id`, `number`, `category`, `turn`, `type`, `request`, `answer`.

    `type` is `chains`, `single requests`, `nothing to call` or `benchmark requests`. `request` is the kind of a chain,
    else the type. `answer` is the ground truth's calls as text.
    """
    rows = []
    for task in tasks:
        for turn in range(task.n_turns):
            general = _type(task, turn)
            rows.append(
                {
                    "task_id": task.id,
                    "number": task.number,
                    "category": str(task.category),
                    "turn": turn,
                    "type": general,
                    "request": task.kinds[turn] if general == CHAIN else general,
                    "answer": str(task.ground_truth[turn]),
                }
            )
    return pd.DataFrame(rows)


def turn_frame(result: Result, tasks: Sequence[Task]) -> pd.DataFrame:
    """`asked`, in the order of the episodes, with `right` and the `mistake` that lost the turn.

    Args:
        result: an evaluation of `tasks`.
        tasks: in any order.
    """
    by_id = {task.id: task for task in tasks}
    played = [(by_id[episode.task_id], episode) for episode in result.episodes]
    mistakes = [lost_by(task, episode, turn) for task, episode in played for turn in range(task.n_turns)]
    frame = asked([task for task, _ in played])
    named = pd.Series([mistake and str(mistake) for mistake in mistakes], dtype=object)
    return frame.assign(right=named.isna(), mistake=named)


def gains(before: pd.DataFrame, after: pd.DataFrame, by: str) -> pd.DataFrame:
    """Turn accuracy before and after, by group and in `all`, with 95 % intervals clustered by id number.

    Args:
        before, after: two results of `turn_frame` on the same tasks.
        by: `category`, `type` or `request`.

    Returns:
        Indexed by group, the best one after training first, `all` last. Columns: `n` turns, the number of different
        `answers`, `before` and `after`, the last two each with `_low` and `_high`.
    """
    found = {}
    for name, frame in {"before": before, "after": after}.items():
        both = pd.concat([frame, frame.assign(**{by: "all"})])
        found[name] = rates(both, [by], "right").set_index(by)
    columns = {"n": found["after"].n, "answers": both.groupby(by).answer.nunique()}
    for name, table in found.items():
        columns |= {name: table.rate, f"{name}_low": table.low, f"{name}_high": table.high}
    groups = pd.DataFrame(columns)
    ordered = groups.drop(index="all").sort_values(["after", "before"], ascending=False, kind="stable")
    return pd.concat([ordered, groups.loc[["all"]]])


def changed(before: Result, after: Result, turns: Mapping[str, pd.DataFrame]) -> JSON:
    """What training changed, as numbers: every measure before and after.

    Args:
        before, after: evaluations of the same tasks.
        turns: `turn_frame` of both, under `before` and `after`.

    Returns:
        `turn_accuracy`, `task_accuracy` and `task_accuracy_by_category`. If the tasks have chains,
        `chain_turn_accuracy`, the number of their `chain_kinds` and how many of these are never correct after training,
        `chains_at_zero`. If they have turns with nothing to call, `waiting_turn_accuracy`.
    """
    results, later = {"before": before, "after": after}, turns["after"]
    numbers: JSON = {
        "turn_accuracy": {name: result.turn_accuracy for name, result in results.items()},
        "task_accuracy": {name: result.accuracy for name, result in results.items()},
        "task_accuracy_by_category": {
            name: result.by_category.task_accuracy.to_dict() for name, result in results.items()
        },
    }
    for name, general in {"chain_turn_accuracy": CHAIN, "waiting_turn_accuracy": NOTHING}.items():
        if (later.type == general).any():
            numbers[name] = {when: float(own.right[own.type == general].mean()) for when, own in turns.items()}
    kinds = later[later.type == CHAIN].groupby("request").right.mean()
    if len(kinds):
        numbers |= {"chain_kinds": len(kinds), "chains_at_zero": int((kinds == 0).sum())}
    return numbers


def most_changed(before: Result, after: Result) -> int:
    """Index of the first task whose progress grew most."""
    grown = [b.progress - a.progress for a, b in zip(before.rows, after.rows, strict=True)]
    return grown.index(max(grown))


def scores(results: Mapping[str, Mapping[str, Result]], frames: Mapping[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
    """Several policies on several sets of tasks, by category and in `all`.

    Args:
        results: set -> policy -> evaluation.
        frames: (set, policy) -> `turn_frame`.

    Returns:
        Indexed by `tasks` (the set), `policy` and `category`: `n`, `turn_accuracy`, `chain_turn_accuracy` (NaN without
        chains), `task_accuracy`, `strict_task_accuracy` and `progress`, each but the first with `_low` and `_high`.
    """
    tables = {}
    for (name, policy), frame in frames.items():
        table = results[name][policy].table()
        turns = _turns(frame, "turn_accuracy").join(_turns(frame[frame.type == CHAIN], "chain_turn_accuracy"))
        ends = [f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]
        tables[name, policy] = table[["n"]].join(turns).join(table[ends])
    return pd.concat(tables, names=["tasks", "policy", "category"])


def _turns(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Turn accuracy by category and in `all`, as the column `name` with its interval."""
    columns = {"rate": name, "low": f"{name}_low", "high": f"{name}_high"}
    if frame.empty:
        return pd.DataFrame(columns=list(columns.values()), dtype=float)
    both = pd.concat([frame, frame.assign(category="all")])
    return rates(both, ["category"], "right").set_index("category")[list(columns)].rename(columns=columns)
