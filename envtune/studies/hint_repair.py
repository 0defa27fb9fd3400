"""Can a hint be acted on? An agent that repairs its mistakes by reading plays the same tasks under several texts.

In: tasks. Out: one row per episode and domain, and the share of solved tasks by domain with its interval.
`studies.repairer` says what the agent can do. The arms differ only in the hints.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from envtune.environment import Strength, ToolUseEnv
from envtune.evaluation.frames import rates
from envtune.policy.base import Chat
from envtune.studies.repairer import Repairer
from envtune.types import Episode, Task

ARMS: dict[str, Strength | None] = {"no hints": None, "a list of three": Strength.LIST, "the one tool": Strength.ONE}
"""Arm -> strength of the hint that the agent reads next to an error."""


def play_repairer(
    task: Task, strength: Strength | None, *, forget: float = 0.4, spoil: float = 0.4, seed: int = 0
) -> Episode:
    """One episode of the repairing agent, without a limit of steps. `strength` None: without hints."""
    env = ToolUseEnv(task, hints=strength is not None, hint_strength=strength or Strength.ONE, max_steps_per_turn=None)
    policy = Repairer(forget, spoil, seed)
    chat = Chat(task, list(env.reset().messages), task.tools)
    while not env.done:
        (text,) = policy.reply([chat])
        observation = env.step(text)
        chat.messages += [{"role": "assistant", "content": text}, *observation.messages]
    return env.episode


def repair_frame(
    tasks: Sequence[Task], *, forget: float = 0.4, spoil: float = 0.4, seeds: Sequence[int] = (0,)
) -> pd.DataFrame:
    """One row per task, seed, arm and domain of the task: `number`, `domain`, `arm`, `solved`, `calls`, `failed`.

    Every episode also counts once under the domain `all`.
    """
    rows = []
    for task in tasks:
        for seed in seeds:
            for arm, strength in ARMS.items():
                episode = play_repairer(task, strength, forget=forget, spoil=spoil, seed=seed)
                row = {
                    "task_id": task.id,
                    "number": task.number,
                    "seed": seed,
                    "arm": arm,
                    "solved": episode.success,
                    "calls": episode.counts.calls,
                    "failed": episode.counts.failed_calls,
                }
                rows += [row | {"domain": domain} for domain in ("all", *task.involved_classes)]
    return pd.DataFrame(rows)


def repair_rates(frame: pd.DataFrame) -> pd.DataFrame:
    """Share of solved tasks by domain and arm: `domain`, `arm`, `n`, `rate`, `low`, `high` (95 %, by id number).

    Sorted by domain, `all` last. Within a domain the arms stand in the order of `ARMS`.
    """
    table = rates(frame, ["domain", "arm"], "solved")
    last = table.domain == "all"
    order = table.assign(last=last, place=table.arm.map(list(ARMS).index)).sort_values(["last", "domain", "place"])
    return order.drop(columns=["last", "place"]).reset_index(drop=True)
