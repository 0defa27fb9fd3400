"""Several policies over several sets of tasks, in parallel processes, because a tiny model uses one core well, not two.

In: what `load_policy` and `load_tasks` take. Out: a `Result` per policy and set, each with its JSONL, as `evaluate`
writes them. After a kill at any point, the same call goes on.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from envtune.data import load_tasks, spread
from envtune.environment.rules import DEFAULT, Rules
from envtune.evaluation.evaluate import evaluate, load_result
from envtune.evaluation.result import Result
from envtune.policy import load_policy, set_threads
from envtune.processes import end_with_parent
from envtune.types import Task


@dataclass(frozen=True)
class TaskSet:
    """A description of tasks, from which a process can load them itself."""

    source: str
    split: str
    n: int | None = None
    """How many tasks are made (`synth`), or taken evenly from the split (`bfcl`). None: the whole split (`bfcl`)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `load_tasks`."""
    rules: Rules = DEFAULT
    """How they are played. Default: the benchmark's limits."""

    def load(self) -> list[Task]:
        """The tasks."""
        if self.source == "synth":
            return load_tasks(self.source, n=self.n, split=self.split, **self.options)
        return spread(load_tasks(self.source, split=self.split, **self.options), self.n)


def evaluate_all(
    policies: Mapping[str, str],
    sets: Mapping[str, TaskSet],
    folder: Path,
    *,
    batch_size: int = 32,
    threads: int | None = None,
    jobs: int = 1,
) -> dict[str, dict[str, Result]]:
    """Evaluate every policy on every set: greedy, no hints.

    Args:
        policies: name -> what `load_policy` takes.
        sets: name -> tasks.
        folder: for the files `<policy>-<set>.jsonl`. Blanks in names become `_`.
        batch_size: see `evaluate`.
        threads: of torch, in each process.
        jobs: number of processes. 1: in this one.

    Returns:
        Set -> policy -> result.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {(s, p): folder / f"{p}-{s}.jsonl".replace(" ", "_") for s in sets for p in policies}
    works = [(policies[p], p, sets[s], str(file), batch_size, threads) for (s, p), file in files.items()]
    if jobs == 1:
        for work in works:
            _evaluate_one(*work, progress=True)
    else:
        _in_processes(works, jobs)
    return {s: {p: load_result(files[s, p]) for p in policies} for s in sets}


def _in_processes(works: Sequence[tuple[Any, ...]], jobs: int) -> None:
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork
    with ProcessPoolExecutor(jobs, context, _begin_process) as pool:
        running = [pool.submit(_evaluate_one, *work) for work in reversed(works)]  # the benchmark, the longest, is last
        try:
            for done in tqdm(as_completed(running), total=len(running), desc="evaluations"):
                done.result()
        except BaseException:  # start no further evaluation
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _evaluate_one(
    spec: str, name: str, tasks: TaskSet, file: str, batch_size: int, threads: int | None, progress: bool = False
) -> None:
    set_threads(threads)
    policy = load_policy(spec, name=name)
    evaluate(policy, tasks.load(), file, rules=tasks.rules, batch_size=batch_size, progress=progress)


def _begin_process() -> None:
    """End with the parent: a process must not go on writing to files that the next run uses."""
    end_with_parent()
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
