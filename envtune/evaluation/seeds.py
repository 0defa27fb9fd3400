"""How sure are we over seeds? Means of a few training runs with Student's 95 % interval, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev

import numpy as np
import pandas as pd
from scipy import stats

from envtune.evaluation.stats import CONFIDENCE


def seed_mean(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and the ends of its interval (NaN for one value). The runs are taken as normal draws."""
    middle = mean(values)
    if len(values) < 2:
        return middle, math.nan, math.nan
    half = stdev(values) / math.sqrt(len(values)) * float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return middle, middle - half, middle + half


def arm_means(
    summary: pd.DataFrame, metric: str = "turn_accuracy", by: str = "category", *, share: bool = True
) -> pd.DataFrame:
    """Mean over seeds of a metric: one row per arm and group, `seeds`, `mean`, `low`, `high`.

    Args:
        summary: columns `arm`, `seed`, that of the groups and the metric.
        metric: a column of numbers.
        by: the column of the groups.
        share: the metric is a share, so the interval is cut where it passes 0 or 1.
    """
    rows = []
    for (arm, group), own in summary.groupby(["arm", by], sort=False):
        middle, low, high = seed_mean(own[metric].tolist())
        if share:
            low, high = np.clip([low, high], 0, 1)
        rows.append({"arm": arm, by: group, "seeds": len(own), "mean": middle, "low": low, "high": high})
    return pd.DataFrame(rows)


def arm_differences(summary: pd.DataFrame, arm: str, metric: str = "turn_accuracy") -> pd.DataFrame:
    """`arm` minus each other arm, seed by seed, all categories together. A policy that was not trained has no seed and
    is left out.

    Returns:
        One row per other arm: `arm`, `other`, `seeds` that both have, `difference`, `low`, `high`.
    """
    whole = summary[(summary.category == "all") & summary.seed.notna()]
    by_seed = whole.pivot(index="seed", columns="arm", values=metric)
    rows = []
    for other in (name for name in whole.arm.unique() if name != arm):
        pairs = (by_seed[arm] - by_seed[other]).dropna()
        middle, low, high = seed_mean(pairs.tolist())
        row = {"arm": arm, "other": other, "seeds": len(pairs)}
        rows.append(row | {"difference": middle, "low": low, "high": high})
    return pd.DataFrame(rows)


def base_gains(summary: pd.DataFrame, metric: str, base: str = "base") -> pd.DataFrame:
    """How far each arm moved from the policy that all start from, all categories together.

    Args:
        summary: as in `arm_means`, with one row `base` per category that has no seed.
        metric: a column of numbers.
        base: name of that policy.

    Returns:
        One row per arm: `arm`, `metric`, `seeds`, `base`, `after`, `difference`, `low`, `high`.
    """
    whole = summary[summary.category == "all"]
    before = float(whole[whole.arm == base][metric].iloc[0])
    rows = []
    for arm, own in whole[whole.arm != base].groupby("arm", sort=False):
        middle, low, high = seed_mean((own[metric] - before).tolist())
        row = {"arm": arm, "metric": metric, "seeds": len(own), "base": before, "after": before + middle}
        rows.append(row | {"difference": middle, "low": low, "high": high})
    return pd.DataFrame(rows)
