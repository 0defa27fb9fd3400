"""Which instances an agent may learn from, and which it must never see.

Siblings (`multi_turn_base_17`, `multi_turn_miss_func_17`, ...) tell the same story and almost always share the ground
truth. So a split goes by id number, across all four categories. The protocol is T3RL's: numbers 0-199 shuffled with
seed 42 -> 100 train, 25 validation, 75 test. "400 unseen" is validation + test. T3RL does not name its shuffle. Ours is
`random.Random(42).shuffle`, so the proportions are theirs and the members may differ.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from enum import StrEnum

from envtune.types import Task

N_NUMBERS = 200
SPLIT_SEED = 42
SIZES = {"train": 100, "val": 25, "test": 75}


class Split(StrEnum):
    """Parts of the benchmark."""

    ALL = "all"
    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    HELDOUT = "heldout"
    """val + test: the 400 unseen instances that published scores refer to."""


def split_numbers(split: str) -> frozenset[int]:
    """Id numbers of a split.

    Raises:
        ValueError: no such split.
    """
    try:
        split = Split(split)
    except ValueError:
        raise ValueError(f"unknown split {split!r}. Known: {', '.join(Split)}") from None
    numbers = list(range(N_NUMBERS))
    random.Random(SPLIT_SEED).shuffle(numbers)
    train_end, val_end = SIZES["train"], SIZES["train"] + SIZES["val"]
    parts = {
        Split.ALL: numbers,
        Split.TRAIN: numbers[:train_end],
        Split.VAL: numbers[train_end:val_end],
        Split.TEST: numbers[val_end:],
        Split.HELDOUT: numbers[train_end:],
    }
    return frozenset(parts[split])


def split_of(numbers: Iterable[int]) -> str | None:
    """The split that holds exactly these id numbers, if there is one."""
    wanted = frozenset(numbers)
    return next((str(split) for split in Split if split_numbers(split) == wanted), None)


def split_around(numbers: Iterable[int]) -> str:
    """The smallest split that holds all these id numbers."""
    wanted = frozenset(numbers)
    return str(min((s for s in Split if wanted <= split_numbers(s)), key=lambda s: len(split_numbers(s))))


def select(tasks: Iterable[Task], split: str) -> list[Task]:
    """The tasks of a split, in the order given."""
    numbers = split_numbers(split)
    return [task for task in tasks if task.number in numbers]


def spread(tasks: Sequence[Task], limit: int | None) -> list[Task]:
    """At most `limit` tasks, evenly spaced over the sequence, so that every category keeps its share."""
    if limit is None or limit >= len(tasks):
        return list(tasks)
    if limit < 1:
        raise ValueError(f"limit is {limit}. It must be at least 1, or None for all tasks")
    return [tasks[i * len(tasks) // limit] for i in range(limit)]


def row_split(tasks: Sequence[Task], seed: int = SPLIT_SEED) -> tuple[list[Task], list[Task]]:
    """A random half by row, ignoring siblings. It shows how much such a split leaks. Never train on it."""
    rows = list(tasks)
    random.Random(seed).shuffle(rows)
    half = len(rows) // 2
    return rows[:half], rows[half:]


def leak(seen: Iterable[Task], unseen: Sequence[Task]) -> float:
    """Share of unseen tasks whose ground truth (empty turns dropped) is also that of a seen task of the same number."""
    answers = {(task.number, _answer(task)) for task in seen}
    return sum((task.number, _answer(task)) in answers for task in unseen) / len(unseen)


def _answer(task: Task) -> str:
    return repr([turn for turn in task.ground_truth if turn])


def task_digest(tasks: Sequence[Task]) -> str:
    """SHA-256 over everything in `tasks` that a score depends on, in order."""
    digest = hashlib.sha256()
    for task in tasks:
        digest.update(json.dumps(asdict(task), sort_keys=True).encode())
    return digest.hexdigest()
