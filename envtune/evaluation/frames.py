"""Episodes as tables, one row per call or per episode, for counting and drawing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache, reduce
from operator import add

import pandas as pd

from envtune import rewards
from envtune.data import bfcl
from envtune.evaluation.stats import cluster_mean
from envtune.types import Counts, Episode


@cache
def domains() -> dict[str, str]:
    """Tool name -> simulator class."""
    return {doc["name"]: cls for cls, docs in bfcl.tool_documents().items() for doc in docs}


def call_frame(episodes: Iterable[Episode]) -> pd.DataFrame:
    """One row per call: `task_id`, `number`, `category`, `turn`, `tool`, `domain`, `call`, `result`, `error`, `hint`.

    `domain` is the simulator class, or `unknown tool`. `number` is the id number, by which intervals are clustered.
    """
    rows = [
        {
            "task_id": episode.task_id,
            "number": episode.number,
            "category": str(episode.category),
            "turn": turn_index,
            "tool": call.name,
            "domain": domains().get(call.name, "unknown tool"),
            "call": f"{call.name}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})",
            "result": result.text,
            "error": result.error,
            "hint": result.hint,
        }
        for episode in episodes
        for turn_index, turn in enumerate(episode.turns)
        for step in turn.steps
        for call, result in zip(step.calls, step.results, strict=True)
    ]
    return pd.DataFrame(rows)


def reward_frame(episodes: Iterable[Episode]) -> pd.DataFrame:
    """One row per episode: `task_id`, `number`, `category`, `success`, `strict_success` and every reward."""
    rows = [
        {
            "task_id": episode.task_id,
            "number": episode.number,
            "category": str(episode.category),
            "success": episode.success,
            "strict_success": episode.strict_success,
            **rewards.scores(episode),
        }
        for episode in episodes
    ]
    return pd.DataFrame(rows)


def rates(frame: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Mean of a column per group with its 95 % interval, clustered by id number.

    Args:
        frame: has `number`, the columns `by` and `value`.
        by: columns to group by. Groups come in the order of their first row.
        value: a column of numbers or booleans.

    Returns:
        One row per group: the columns `by`, then `n`, `rate`, `low`, `high`.
    """
    rows = []
    for key, group in frame.groupby(by, sort=False):
        e = cluster_mean(group[value].astype(float).tolist(), group["number"].tolist())
        keys = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
        rows.append(keys | {"n": e.n, "rate": e.value, "low": e.low, "high": e.high})
    return pd.DataFrame(rows)


def feedback_rates(episodes: Iterable[Episode]) -> dict[str, float]:
    """Execution feedback, pooled over episodes.

    Keys: `execution` (reward, per episode), `error_rate` (of calls), `unknown_tool_rate` (of calls: the tool does not
    exist), `invalid_json_rate` and `structure_rate` (of messages: the two kinds that cannot be parsed). Rates without
    a denominator are NaN.
    """
    played = list(episodes)
    total = reduce(add, (episode.counts for episode in played), Counts())
    return {
        "execution": _share(sum(map(rewards.execution, played)), len(played)),
        "error_rate": _share(total.failed_calls, total.calls),
        "unknown_tool_rate": _share(total.unknown_tools, total.calls),
        "invalid_json_rate": _share(total.invalid_json, total.steps),
        "structure_rate": _share(total.format_errors - total.invalid_json, total.steps),
    }


def _share(part: float, whole: int) -> float:
    return part / whole if whole else math.nan
