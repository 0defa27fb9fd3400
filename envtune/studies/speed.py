"""How fast the environment is: `replay` against the benchmark's own checker, on the same trajectories in the same run.

In: tasks. Out: tables. The two sides take turns on small groups of trajectories, so that other work on the machine
slows both. Ratios are medians over repetitions. Both sides produce a verdict, and `replay` also records the episode.

There are two kinds of trajectories, because an episode that follows the ground truth exactly reads its recorded results
(`environment.simulator`). On ground truths, no tool runs on our side. On perturbed trajectories, tools run from the
first difference on.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence

import pandas as pd

from envtune.benchmark import official
from envtune.environment import replay
from envtune.policy.noise import Noise, perturb
from envtune.processes import peak_memory, resident_memory
from envtune.types import Category, Task

Trajectory = tuple[Task, official.Calls]
GROUP = 25
"""Trajectories played by one side before the other has its turn."""
NOISE = 0.3
"""Share of changed calls in the perturbed trajectories."""


def bench_env(tasks: Sequence[Task], seconds: float = 60.0) -> pd.DataFrame:
    """Episodes and calls per second by category, on ground truths and on perturbed trajectories.

    Args:
        tasks: the instances.
        seconds: time for the whole measurement, shared evenly.

    Returns:
        One row per category and kind of trajectory: episodes/s of both sides, calls/s of `replay`, and the median
        ratio of episodes/s with the number of repetitions behind it.
    """
    kinds = {"ground truth": _ground_truth, "perturbed": _perturbed}
    categories = [category for category in Category if any(task.category is category for task in tasks)]
    share = seconds / (len(kinds) * len(categories))
    rows = []
    for category in categories:
        for kind, trajectory in kinds.items():
            played = [(task, trajectory(task)) for task in tasks if task.category is category]
            rows.append({"category": category.value, "trajectories": kind, **_compare(played, share)})
    return pd.DataFrame(rows)


def step_cost(speed: pd.DataFrame) -> pd.DataFrame:
    """The cost of one call on this machine and of one token of Qwen3-4B on an H200, in microseconds.

    A token decoded alone reads every weight once: parameters x 2 bytes / memory bandwidth. A token in a full batch
    needs 2 x parameters operations at the peak of the arithmetic. Both are lower bounds.

    Args:
        speed: what `bench_env` returned. Its slowest perturbed row counts.
    """
    call = 1e6 / speed[speed.trajectories == "perturbed"]["calls/s"].min()
    alone = 1e6 * PARAMETERS * 2 / BANDWIDTH
    batched = 1e6 * PARAMETERS * 2 / ARITHMETIC
    rows = [
        ("one call in the environment, verdict included", call),
        ("one token of a 4B model, decoded alone", alone),
        ("one token of a 4B model, in a full batch", batched),
        ("fifty tokens, in a full batch", 50 * batched),
    ]
    return pd.DataFrame(rows, columns=["what", "µs"])


PARAMETERS, BANDWIDTH, ARITHMETIC = 4.0e9, 4.8e12, 989e12
"""Weights of Qwen3-4B, and bytes/s and bf16 operations/s of an H200 by its data sheet."""


def memory_growth(tasks: Sequence[Task], episodes: int = 100_000, warm_up: int = 1_000) -> dict[str, float]:
    """Growth of this process over many episodes, in MB: ground truths and perturbed trajectories of all tasks in turn.

    Args:
        tasks: the instances.
        episodes: how many to play after the warm-up.
        warm_up: episodes before the first measurement, at least one per task, to fill what is cached once per task.
    """
    warm_up = max(warm_up, len(tasks))
    before = 0.0
    for i in range(warm_up + episodes):
        if i == warm_up:
            gc.collect()
            before = _resident()
        task = tasks[i % len(tasks)]
        replay(task, perturb(task, Noise.level(NOISE), seed=i) if i // len(tasks) % 2 else _ground_truth(task))
    gc.collect()
    peak = peak_memory() / 2**20
    return {"episodes": float(episodes), "growth": _resident() - before, "resident": _resident(), "peak": peak}


def _resident() -> float:
    """Memory of this process, in MB."""
    return resident_memory() / 2**20


def _ground_truth(task: Task) -> official.Calls:
    return [[[call] for call in turn] for turn in task.ground_truth]


def _perturbed(task: Task) -> official.Calls:
    return perturb(task, Noise.level(NOISE), seed=0)


def _compare(played: Sequence[Trajectory], seconds: float) -> dict[str, float]:
    groups = [played[i : i + GROUP] for i in range(0, len(played), GROUP)]
    sides: tuple[Callable[..., object], ...] = (replay, official.verdict)
    spent: dict[Callable[..., object], list[float]] = {side: [] for side in sides}
    for task, turns in played:  # what is made once per task
        replay(task, turns)
    end = time.perf_counter() + seconds
    repeats = episodes = calls = 0
    while repeats == 0 or time.perf_counter() < end:
        taken = dict.fromkeys(sides, 0.0)
        for group in groups:
            for side in sides:
                taken[side] += _seconds(side, group)
        for side in sides:
            spent[side].append(taken[side])
        repeats += 1
        episodes += len(played)
        calls += sum(len(step) for _, turns in played for turn in turns for step in turn)
    ours, theirs = (sum(spent[side]) for side in sides)
    ratios = [b / a for a, b in zip(spent[replay], spent[official.verdict], strict=True)]
    return {
        "official episodes/s": episodes / theirs,
        "episodes/s": episodes / ours,
        "calls/s": calls / ours,
        "ratio": statistics.median(ratios),
        "repeats": repeats,
    }


def _seconds(side: Callable[..., object], group: Sequence[Trajectory]) -> float:
    began = time.perf_counter()
    for task, turns in group:
        side(task, turns)
    return time.perf_counter() - began
