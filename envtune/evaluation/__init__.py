"""Chapter 6: evaluation. `evaluate` plays a policy over tasks; `compare` sets two results side by side."""

from envtune.evaluation.evaluate import evaluate, load_result
from envtune.evaluation.result import Result, compare, readable
from envtune.evaluation.stats import Difference, Estimate, cluster_mean, paired_difference

__all__ = [
    "Difference",
    "Estimate",
    "Result",
    "cluster_mean",
    "compare",
    "evaluate",
    "load_result",
    "paired_difference",
    "readable",
]
