"""The arms of the hint experiment: one recipe under three schedules of hints, and nothing else changed.

- `faded`: the recipe as it is; hints fade per failed call.
- `none`: no hints at all (turn feedback stays as the recipe has it, in every arm).
- `abrupt`: every failed call gets its hint for the first half of the hinted steps, none after.

`workbook.experiment` runs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from envtune.training.curriculum import Fade, Stage

ARMS = ("faded", "none", "abrupt")


def arm(name: str, stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages of an arm.

    Raises:
        ValueError: no such arm.
    """
    if name not in ARMS:
        raise ValueError(f"unknown arm {name!r}; known: {', '.join(ARMS)}")
    if name == "none":
        return tuple(replace(stage, hint_rate=0.0) for stage in stages)
    return _abrupt(stages) if name == "abrupt" else tuple(stages)


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
