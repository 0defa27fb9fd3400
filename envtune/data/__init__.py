"""Chapter 1: tasks. `load_tasks` is the one way in."""

from __future__ import annotations

from collections.abc import Iterable

from envtune.data import bfcl
from envtune.data.splits import leak, row_split, select, split_numbers, spread
from envtune.types import Category, Task

__all__ = ["leak", "load_tasks", "row_split", "select", "split_numbers", "spread"]


def load_tasks(source: str = "bfcl", *, categories: Iterable[str] | None = None, split: str = "all") -> list[Task]:
    """Tasks of a source, in the benchmark's order (by category, then id number).

    Args:
        source: `"bfcl"`, the 800 multi-turn instances of the benchmark.
        categories: some of `base`, `miss_func`, `miss_param`, `long_context`; default: all four.
        split: `all`, `train`, `val`, `test` or `heldout` (val + test), by id number.

    Raises:
        ValueError: unknown source, category or split, or a benchmark file that was changed.
        ModuleNotFoundError: the benchmark package is missing; the message says how to install it.
    """
    if source != "bfcl":
        raise ValueError(f"unknown task source {source!r}; known: 'bfcl'")
    wanted = _categories(categories)
    return [task for task in select(bfcl.load(), split) if task.category in wanted]


def _categories(names: Iterable[str] | None) -> set[Category]:
    if names is None:
        return set(Category)
    names = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in names if name not in set(Category)]
    if unknown or not names:
        raise ValueError(f"unknown categories {unknown}; known: {', '.join(Category)}")
    return {Category(name) for name in names}
