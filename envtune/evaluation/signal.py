"""What a group-relative learner can learn from a reward: which episodes of the same task it distinguishes.

In: one reward per episode. Out: numbers per task, to be averaged with `stats.cluster_mean`. GRPO normalises rewards
within the episodes of one task (arXiv 2510.10197, section 3), so only differences inside such a group carry signal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PAIRS = ("agree", "only first", "only second", "opposed", "neither")
"""The ways in which two rewards may judge a pair of episodes."""


def separation(better: Sequence[float], worse: Sequence[float]) -> float:
    """Probability that a random better episode is paid more than a random worse one, ties counted half.

    Range [0, 1]. At 0.5 the reward cannot distinguish them. It is the Mann-Whitney statistic as a share of all pairs.

    Raises:
        ValueError: one side is empty.
    """
    if not len(better) or not len(worse):
        raise ValueError(f"{len(better)} better and {len(worse)} worse episodes. Give at least one of both")
    difference = np.subtract.outer(np.asarray(better, dtype=float), np.asarray(worse, dtype=float))
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def zero_spread(rewards: Sequence[float]) -> bool:
    """Whether all episodes of a group earn the same. Then every advantage is zero, and so is the group's gradient."""
    return max(rewards) - min(rewards) == 0


def agreement(first: Sequence[float], second: Sequence[float]) -> dict[str, float]:
    """Which of two rewards distinguishes the episodes of a pair, and whether in the same order, over all pairs of a
    group.

    Returns:
        Shares of the pairs, by `PAIRS`, all 0 if there is no pair.
    """
    n = len(first)
    upper = np.triu_indices(n, 1)
    signs = [
        np.sign(np.subtract.outer(np.asarray(r, dtype=float), np.asarray(r, dtype=float)))[upper]
        for r in (first, second)
    ]
    a, b = signs
    found = (a * b > 0, (a != 0) & (b == 0), (a == 0) & (b != 0), a * b < 0, (a == 0) & (b == 0))
    return {name: float(pairs.mean()) if n > 1 else 0.0 for name, pairs in zip(PAIRS, found, strict=True)}
