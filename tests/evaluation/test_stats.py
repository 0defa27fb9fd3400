"""Intervals and tests: right on simulations, defined in the corners."""

from __future__ import annotations

import math

import numpy as np
import pytest

from envtune.evaluation.stats import cluster_mean, cluster_means, paired_difference


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
