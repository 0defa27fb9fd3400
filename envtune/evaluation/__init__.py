"""Chapter 6: evaluation. `evaluate` plays a policy on tasks, `compare` compares two results."""

from envtune.evaluation.evaluate import evaluate, load_result
from envtune.evaluation.result import Result, compare, comparison, readable
from envtune.evaluation.samples import evaluate_samples, load_runs, sample_table
from envtune.evaluation.stats import Difference, Estimate, cluster_mean, paired_difference

__all__ = [
    "Difference",
    "Estimate",
    "Result",
    "cluster_mean",
    "compare",
    "comparison",
    "evaluate",
    "evaluate_samples",
    "load_result",
    "load_runs",
    "paired_difference",
    "readable",
    "sample_table",
]
