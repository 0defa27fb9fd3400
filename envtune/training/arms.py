"""The arms of the experiments: one recipe with one thing changed. `workbook.experiment` runs them.

Hints, of a recipe such as `laptop`:

- `faded`: the recipe as it is. Hints become rarer and end before the last stage.
- `none`: no hints. Turn feedback is the recipe's, as in every arm.
- `abrupt`: every failure gets a hint in the first half of the steps of the hinted stages, then none.

Algorithm, of a recipe of `PPOStage`s such as `laptop-ppo`:

- `ppo`: the recipe as it is. PPO on the execution reward of every step.
- `grpo`: GRPO on turn progress, on all weights. It plays as many episodes a step by the same rules, in groups of 8, so
  it sees fewer tasks than PPO, which needs no groups. A step makes one update, and groups with equal rewards are left
  out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from envtune.training.curriculum import Fade, PPOStage, Stage

ARMS = ("faded", "none", "abrupt")
ALGORITHMS = ("ppo", "grpo")
GROUP = 8
"""Rollouts per task that GRPO compares."""


def arm(name: str, stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages of an arm.

    Raises:
        ValueError: there is no such arm, or these stages cannot have it.
    """
    if name not in (*ARMS, *ALGORITHMS):
        raise ValueError(f"unknown arm {name!r}. Known: {', '.join((*ARMS, *ALGORITHMS))}")
    if name in ALGORITHMS:
        return tuple(_with(name, stage) for stage in stages)
    if name == "none":
        return tuple(replace(stage, hint_rate=0.0) for stage in stages)
    return _abrupt(stages) if name == "abrupt" else tuple(stages)


def _with(algorithm: str, stage: Stage) -> Stage:
    if not isinstance(stage, PPOStage):
        raise ValueError(
            f"arm {algorithm!r} needs a recipe for PPO, such as 'laptop-ppo', but stage {stage.name} is not PPO"
        )
    if algorithm == "ppo":
        return stage
    shared = {field.name: getattr(stage, field.name) for field in fields(Stage)}
    shared |= {"reward": "progress", "drop_zero_spread": True, "lora_rank": 0}
    episodes = stage.episodes
    if episodes % GROUP == 0:  # a smoke test may be smaller
        shared |= {"num_generations": GROUP, "prompts_per_step": episodes // GROUP}
    return Stage(**shared)


def _abrupt(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    left = sum(stage.steps for stage in stages if _hinted(stage)) // 2
    changed = []
    for stage in stages:
        hinted = min(left, stage.steps) if _hinted(stage) else 0
        left -= hinted
        share = hinted / stage.steps
        rate = share if share in (0.0, 1.0) else Fade(1.0, 0.0, share, hold=share)
        changed.append(replace(stage, hint_rate=rate))
    return tuple(changed)


def _hinted(stage: Stage) -> bool:
    return any(stage.rate(step) > 0 for step in range(stage.steps))
