"""How sure are we? Intervals and paired tests that respect siblings.

The four categories tell the same story under the same id number, so their outcomes are not independent. An id number is
one *cluster*, and clusters, not tasks, are resampled. Intervals are 95 % percentile bootstrap intervals. Every number
depends only on the data and `SEED`.

How small a difference can be seen? Two scores differ by chance with a standard error of

- paired (both verdicts of every task are known): `error` = `standard_error` of the differences task by task;
- unpaired (only the two scores are known): `error` = sqrt(error_a² + error_b²), as if they were independent.

A difference shows at 95 % if it is larger than 1.96 * `error`. A true difference shows with probability `power` if it
is (1.96 + z_power) * `error`, which is 2.80 * `error` at a power of 80 %. The error of `n` tasks follows from the
variance of a task's value (p (1 - p) for a score of p, c - d² for a difference of d where a share c of the verdicts
changes) and from the correlation r between m siblings: sqrt(variance * (1 + (m - 1) r) / n).

Degenerate cases: One cluster says nothing about the spread between clusters, so `low` and `high` are NaN. If all
clusters agree, the interval has no width, because a bootstrap cannot see beyond its sample. So 0 of 100 successes gives
[0, 0], while a binomial bound ("rule of three") would still allow 3 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 9_999
SEED = 0
ROUNDING = 1e-9
"""Rounding error up to which a cluster's sum counts as zero."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over tasks with its interval."""

    value: float
    low: float
    high: float
    n: int
    """Tasks."""
    clusters: int
    """Id numbers."""

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of `a` minus mean of `b` over the same tasks, with its interval and a test of "no difference"."""

    value: float
    low: float
    high: float
    p_value: float
    n: int
    clusters: int

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}], p = {self.p_value:.4f}"


def cluster_mean(values: Sequence[float], clusters: Sequence[int]) -> Estimate:
    """Mean of `values` with a 95 % percentile interval from a bootstrap over clusters.

    Args:
        values: one number per task.
        clusters: the cluster of each task: its id number.

    Raises:
        ValueError: no values, or not as many clusters as values.
    """
    return cluster_means([values], clusters)[0]


def cluster_means(columns: Sequence[Sequence[float]], clusters: Sequence[int]) -> list[Estimate]:
    """`cluster_mean` of several columns over the same tasks, from the same resamples."""
    sums, counts = _per_cluster(np.asarray(columns, dtype=np.float64), clusters)
    n, k = int(counts.sum()), len(counts)
    means = sums.sum(axis=-1) / n
    lows, highs = _interval(sums, counts)
    return [
        Estimate(float(mean), float(low), float(high), n, k) for mean, low, high in zip(means, lows, highs, strict=True)
    ]


def paired_difference(a: Sequence[float], b: Sequence[float], clusters: Sequence[int]) -> Difference:
    """How much better `a` is than `b` on the same tasks.

    The interval is that of `cluster_mean` for the differences task by task. The p-value is two-sided, from flipping the
    sign of whole clusters: without a difference, either sign would be equally likely. It is exact for up to 13 clusters
    that differ, else from 9,999 random flips. If at most one cluster differs, it is 1.

    Args:
        a, b: one number per task, in the same order.
        clusters: the cluster of each task: its id number.

    Raises:
        ValueError: no values, or lengths that differ.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values cannot be paired with {len(b)}. Evaluate both runs on the same tasks")
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    estimate = cluster_mean(differences.tolist(), clusters)
    sums, _ = _per_cluster(differences[None], clusters)
    p_value = _sign_flip_test(sums[0])
    return Difference(estimate.value, estimate.low, estimate.high, p_value, estimate.n, estimate.clusters)


def standard_error(values: Sequence[float], clusters: Sequence[int]) -> float:
    """Standard error of the mean of `values` over whole clusters. NaN for one cluster.

    The mean is a ratio, of cluster sums s to cluster sizes m. With n values in k clusters, its squared error is
    k / (k - 1) * sum((s - mean * m)²) / n², which also holds for clusters of different sizes.

    Raises:
        ValueError: no values, or not as many clusters as values.
    """
    sums, counts = _per_cluster(np.asarray(values, dtype=np.float64)[None], clusters)
    n, k = float(counts.sum()), len(counts)
    residuals = sums[0] - sums[0].sum() / n * counts
    return float(np.sqrt(k / (k - 1) * (residuals**2).sum()) / n) if k > 1 else math.nan


def planned_error(variance: float, n: int, siblings: float = 4, correlation: float = 0.0) -> float:
    """Standard error of a mean that is not measured yet.

    Args:
        variance: of one task's value.
        n: tasks.
        siblings: tasks per id number.
        correlation: between the values of two siblings.

    Raises:
        ValueError: a negative variance, or fewer than one task or sibling.
    """
    if variance < 0 or n < 1 or siblings < 1:
        raise ValueError(f"variance {variance}, {n} tasks, {siblings} siblings: none of them can be that small")
    return math.sqrt(variance * (1 + (siblings - 1) * correlation) / n)


def smallest_difference(*errors: float, power: float = 0.5) -> float:
    """The smallest difference that shows at 95 %, with the formula at the head of this module.

    Args:
        errors: standard errors. Paired: one, of the difference. Unpaired: two, one per score.
        power: 0.5: the smallest difference that, once observed, excludes zero. Above: the smallest true difference that
            is found with this probability.

    Returns:
        NaN if all errors are zero: tasks that all agree do not tell how far others would differ.

    Raises:
        ValueError: `power` is not from 0.5 to below 1.
    """
    if not 0.5 <= power < 1:
        raise ValueError(f"power is {power}. It must be a probability from 0.5 to below 1")
    from scipy.special import ndtri

    error = math.hypot(*errors)
    return float(ndtri((1 + CONFIDENCE) / 2) + ndtri(power)) * error if error else math.nan


def _per_cluster(columns: Floats, clusters: Sequence[int]) -> tuple[Floats, Floats]:
    """Sums (columns, clusters) and task counts (clusters) from columns (columns, tasks)."""
    n = columns.shape[-1]
    if n == 0 or len(clusters) != n:
        raise ValueError(f"{n} values with {len(clusters)} cluster numbers. Give one number per value, at least one")
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    counts = np.bincount(index).astype(np.float64)
    return np.stack([np.bincount(index, weights=column) for column in columns]), counts


def _interval(sums: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Ends of the intervals, one per row of `sums`."""
    if len(counts) < 2:
        unknown = np.full(len(sums), math.nan)
        return unknown, unknown
    from scipy import stats  # takes a second

    result = stats.bootstrap(
        (sums, np.broadcast_to(counts, sums.shape)),
        lambda s, c, axis: s.sum(axis=axis) / c.sum(axis=axis),
        paired=True,
        vectorized=True,
        axis=-1,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        batch=1_000,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    return result.confidence_interval.low, result.confidence_interval.high


def _sign_flip_test(sums: Floats) -> float:
    """Two-sided p-value of "the cluster sums are symmetric around zero". Zero sums say nothing and are left out."""
    informative = sums[np.abs(sums) > ROUNDING]
    if len(informative) < 2:
        return 1.0
    from scipy import stats

    result = stats.permutation_test(
        (informative,),
        lambda x, axis: x.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(SEED),
    )
    return float(result.pvalue)
