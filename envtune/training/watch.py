"""When to end a stage early: it no longer improves, or it has collapsed.

In: the lines of one stage from `metrics.jsonl`, in order. Out: a verdict. Both functions are pure functions of the
numbers, so all processes decide alike, and a resumed run makes the same decision again.

The plateau is the paper's rule (arXiv 2510.10197: validation accuracy flat, gradient norm stable). Its numbers are our
choice. The collapse rules are ours. They follow the paper's account of single-stage training, which collapses as the
gradient norm passes 1. They are meant to be certain, not early.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from envtune.types import JSON

WINDOW = 10
"""Number of consecutive steps that must all look bad, and the window of the means that are compared."""
STABLE_NORM = 1.0
"""Highest gradient norm at which a stage may end by its plateau."""
LOUD_NORM = 1.0
"""Gradient norm above which a falling reward is a collapse."""
UNREAD = 0.9
"""Share of unreadable messages that counts as a collapse."""
SILENT_ENTROPY = 1e-4
"""Nats per token below which nothing is explored any more."""


def plateaued(lines: Sequence[JSON], key: str, patience: int) -> bool:
    """Whether the last `patience` validations did not beat the best before them, with a stable gradient norm.

    Args:
        lines: of one stage.
        key: name of the validated measure.
        patience: number of consecutive validations. 0: never.
    """
    scores = [line[key] for line in lines if key in line]
    if not patience or len(scores) <= patience:
        return False
    norms = _column(lines, "grad_norm")[-WINDOW:]
    flat = max(scores[-patience:]) <= max(scores[:-patience])
    return flat and all(math.isfinite(norm) and norm <= STABLE_NORM for norm in norms)


def collapsed(lines: Sequence[JSON]) -> str | None:
    """Why the stage has collapsed, in words and numbers. None if it has not."""
    steps = [line for line in lines if line["step"]]
    if steps and any(_broken(steps[-1].get(name, 0.0)) for name in ("loss", "grad_norm")):
        return f"loss {steps[-1].get('loss')}, gradient norm {steps[-1].get('grad_norm')}: not finite"
    if len(steps) < 2 * WINDOW:
        return None
    recent = steps[-WINDOW:]
    unread, spread, entropy, norms = (
        _column(recent, name) for name in ("format_error_rate", "zero_spread", "entropy", "grad_norm")
    )
    rewards = _column(steps, "reward")
    best = max(fmean(rewards[i : i + WINDOW]) for i in range(len(rewards) - WINDOW + 1))
    now, first = fmean(rewards[-WINDOW:]), _column(steps, "format_error_rate")[:WINDOW]
    if len(unread) == WINDOW and min(unread) > UNREAD > fmean(first):
        return f"for {WINDOW} steps over {UNREAD:.0%} of the messages could not be read ({fmean(first):.0%} at first)"
    if len(spread) == WINDOW and min(spread) == 1.0 and entropy and max(entropy) < SILENT_ENTROPY:
        return f"for {WINDOW} steps all rollouts of a group were alike, entropy {max(entropy):.1e}: nothing is explored"
    if len(norms) == WINDOW and min(norms) > LOUD_NORM and best > 0 and now < best / 2:
        return (
            f"for {WINDOW} steps the gradient norm was above {LOUD_NORM:g} (now {norms[-1]:.1f}) and the reward fell "
            f"from {best:.3f} to {now:.3f}"
        )
    return None


def _column(lines: Sequence[JSON], key: str) -> list[float]:
    return [line[key] for line in lines if line.get(key) is not None]


def _broken(value: float | None) -> bool:
    return value is None or not math.isfinite(value)
