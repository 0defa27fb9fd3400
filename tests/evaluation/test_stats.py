"""Intervals and tests: right on simulations, defined in the corners."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from envtune.evaluation.stats import (
    cluster_mean,
    cluster_means,
    paired_difference,
    planned_error,
    smallest_difference,
    standard_error,
)


def test_counts() -> None:
    estimate = cluster_mean([1, 0, 1, 1], [7, 7, 8, 9])
    assert (estimate.value, estimate.n, estimate.clusters) == (0.75, 4, 3)


def test_independent_tasks_get_the_textbook_interval() -> None:
    values = [1.0] * 60 + [0.0] * 140
    estimate = cluster_mean(values, range(200))
    half = 1.96 * math.sqrt(0.3 * 0.7 / 200)
    assert estimate.low == pytest.approx(0.3 - half, abs=0.01)
    assert estimate.high == pytest.approx(0.3 + half, abs=0.01)


def test_siblings_that_agree_count_once() -> None:
    once = cluster_mean([1.0] * 15 + [0.0] * 35, range(50))
    four_times = cluster_mean(([1.0] * 15 + [0.0] * 35) * 4, list(range(50)) * 4)
    assert (four_times.low, four_times.high) == (once.low, once.high)
    assert (four_times.n, four_times.clusters) == (200, 50)


def test_coverage_on_correlated_tasks() -> None:
    """Clusters of four tasks with a shared difficulty: about 95 of 100 intervals hold the truth, not about 70."""
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(40), 4)
    inside = naive = 0
    for _ in range(100):
        ability = rng.choice([0.1, 0.9], size=40)
        values = (rng.random(160) < np.repeat(ability, 4)).astype(float)
        estimate = cluster_mean(values.tolist(), clusters.tolist())
        inside += estimate.low <= 0.5 <= estimate.high
        half = 1.96 * math.sqrt(values.mean() * (1 - values.mean()) / 160)
        naive += abs(values.mean() - 0.5) <= half
    assert 88 <= inside <= 99
    assert naive < 85


def test_columns_share_resamples() -> None:
    rng = np.random.default_rng(1)
    columns, clusters = rng.random((2, 30)), (np.arange(30) % 10).tolist()
    assert cluster_means(columns.tolist(), clusters)[1] == cluster_mean(columns[1].tolist(), clusters)


def test_repeatable() -> None:
    assert cluster_mean([1, 0, 1, 0], range(4)) == cluster_mean([1, 0, 1, 0], range(4))


def test_one_cluster_has_no_interval() -> None:
    estimate = cluster_mean([1, 0], [3, 3])
    assert estimate.value == 0.5
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)
    assert paired_difference([1, 1], [0, 0], [3, 3]).p_value == 1.0


def test_agreement_has_no_width() -> None:
    estimate = cluster_mean([0.0] * 5, range(5))
    assert (estimate.low, estimate.high) == (0.0, 0.0)
    difference = paired_difference([1] * 5, [1] * 5, range(5))
    assert (difference.value, difference.low, difference.high, difference.p_value) == (0, 0, 0, 1.0)


def test_sign_flips_are_exact_for_few_clusters() -> None:
    assert paired_difference([1] * 6, [0] * 6, range(6)).p_value == pytest.approx(2 / 2**6)
    assert paired_difference([1] * 24, [0] * 24, list(range(6)) * 4).p_value == pytest.approx(2 / 2**6)
    assert paired_difference([0] * 6, [1] * 6, range(6)).value == -1


def test_p_values_are_uniform_without_a_difference() -> None:
    rng = np.random.default_rng(2)
    clusters = np.repeat(np.arange(20), 4).tolist()
    p_values = []
    for _ in range(100):
        shared = np.repeat(rng.random((2, 20)) < 0.5, 4, axis=1).astype(float)
        p_values.append(paired_difference(shared[0].tolist(), shared[1].tolist(), clusters).p_value)
    assert np.mean(np.array(p_values) <= 0.05) <= 0.11


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.random(200) < 0.6).astype(float), (rng.random(200) < 0.4).astype(float)
    difference = paired_difference(a.tolist(), b.tolist(), range(200))
    assert difference.p_value < 0.01
    assert 0 < difference.low < 0.2 < difference.high + 0.1
    assert "p = 0.0" in str(difference)


@pytest.mark.parametrize(("values", "clusters"), [([], []), ([1.0], []), ([1.0], [1, 2])])
def test_refuses_what_does_not_fit(values: list[float], clusters: list[int]) -> None:
    with pytest.raises(ValueError, match=r"cluster numbers\. Give one number per value, at least one"):
        cluster_mean(values, clusters)


def test_refuses_unpaired_runs() -> None:
    with pytest.raises(ValueError, match="2 values cannot be paired with 1"):
        paired_difference([1, 0], [1], [1, 2])


SIBLINGS = np.repeat(np.arange(100), 4)


def studies(rng: np.random.Generator, chances: dict[float, float], shared: float, n: int = 1_000) -> np.ndarray:
    """Values of 400 tasks (n, 400). A share of the tasks has the value of its id number: siblings correlate."""
    outcomes, weights = list(chances), list(chances.values())
    own = rng.choice(outcomes, p=weights, size=(n, 400))
    of_cluster = np.repeat(rng.choice(outcomes, p=weights, size=(n, 100)), 4, axis=1)
    return np.where(rng.random((n, 400)) < shared, of_cluster, own)


def test_the_standard_error_is_how_far_means_scatter() -> None:
    rng = np.random.default_rng(11)
    values = studies(rng, {1.0: 0.3, 0.0: 0.7}, shared=0.6)
    scatter = values.mean(axis=1).std()
    errors = [standard_error(row.tolist(), SIBLINGS.tolist()) for row in values[:200]]
    assert np.mean(errors) == pytest.approx(scatter, rel=0.06)
    assert planned_error(0.3 * 0.7, 400, correlation=0.6**2) == pytest.approx(scatter, rel=0.06)
    assert planned_error(0.3 * 0.7, 400) < 0.75 * scatter, "siblings that count as independent promise too much"


def test_the_standard_error_fits_the_bootstrap_interval() -> None:
    rng = np.random.default_rng(12)
    clusters = rng.integers(0, 80, size=400).tolist()  # of different sizes
    values = (rng.random(400) < 0.4 + 0.4 * (np.array(clusters) % 2)).astype(float).tolist()
    estimate = cluster_mean(values, clusters)
    assert (estimate.high - estimate.low) / 2 == pytest.approx(1.96 * standard_error(values, clusters), rel=0.06)
    assert standard_error(values, range(400)) == pytest.approx(np.std(values, ddof=1) / 20)
    assert math.isnan(standard_error([1, 0], [3, 3]))


def test_the_smallest_paired_difference_is_found_with_the_power_promised() -> None:
    """A fifth of the verdicts change, and siblings tend to change together."""
    rng = np.random.default_rng(13)
    changed, shared = 0.2, 0.6
    for power in (0.5, 0.8):
        error = planned_error(changed, 400, correlation=shared**2)
        difference = smallest_difference(error, power=power)
        up, down = (changed + difference) / 2, (changed - difference) / 2
        values = studies(rng, {1.0: up, -1.0: down, 0.0: 1 - changed}, shared)
        found = [
            mean > 1.96 * standard_error(row.tolist(), SIBLINGS.tolist()) for row in values for mean in [row.mean()]
        ]
        assert np.mean(found) == pytest.approx(power, abs=0.05)


def test_the_smallest_unpaired_difference_is_found_with_the_power_promised() -> None:
    rng = np.random.default_rng(14)
    error = planned_error(0.25, 400, correlation=0.36)
    difference = smallest_difference(error, error, power=0.8)
    assert difference == pytest.approx(2.80 * math.sqrt(2) * error, rel=0.002)
    a, b = (
        studies(rng, {1.0: score, 0.0: 1 - score}, shared=0.6) for score in (0.5 + difference / 2, 0.5 - difference / 2)
    )
    both = zip(a, b, strict=True)
    found = [
        x.mean() - y.mean() > 1.96 * math.hypot(*(standard_error(z.tolist(), SIBLINGS.tolist()) for z in (x, y)))
        for x, y in both
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)


def test_the_smallest_observed_difference_just_excludes_zero() -> None:
    rng = np.random.default_rng(15)
    noise = studies(rng, {1.0: 0.15, -1.0: 0.15, 0.0: 0.7}, shared=0.5, n=1)[0]
    centred = noise - noise.mean()
    smallest = smallest_difference(standard_error(centred.tolist(), SIBLINGS.tolist()))
    for factor, excluded in ((0.85, False), (1.15, True)):
        found = paired_difference((centred + factor * smallest).tolist(), [0.0] * 400, SIBLINGS.tolist())
        assert (found.low > 0) == excluded
        assert (found.p_value < 0.05) == excluded


def test_what_cannot_be_planned() -> None:
    assert math.isnan(smallest_difference(0.0))
    for power in (0.4, 1.0):
        with pytest.raises(ValueError, match="power is"):
            smallest_difference(0.1, power=power)
    for wrong in ({"variance": -1, "n": 4}, {"variance": 0.1, "n": 0}, {"variance": 0.1, "n": 4, "siblings": 0}):
        with pytest.raises(ValueError, match="none of them can be that small"):
            planned_error(**wrong)


def test_the_guide_shows_the_formulas_numbers() -> None:
    guide = (Path(__file__).parents[2] / "docs/scoring.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| ((?:un)?paired), [^|]*\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", guide, re.MULTILINE
    )
    assert len(rows) == 6
    for how, *numbers in rows:
        variance, correlation, observed, true = map(float, numbers)
        errors = [planned_error(variance, 400, 4, correlation)] * (2 if how == "unpaired" else 1)
        assert 100 * smallest_difference(*errors) == pytest.approx(observed, abs=0.05)
        assert 100 * smallest_difference(*errors, power=0.8) == pytest.approx(true, abs=0.05)
