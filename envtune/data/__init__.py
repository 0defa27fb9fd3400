"""Chapter 1: tasks. `load_tasks` is the one way in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from envtune.data import bfcl, synth
from envtune.data.splits import Split, leak, row_split, select, split_numbers, spread
from envtune.types import Category, Task

__all__ = ["SOURCES", "Source", "leak", "load_tasks", "row_split", "select", "split_numbers", "spread"]

PROCEDURAL = 64
"""Number of procedural tasks if none is given."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where tasks come from."""

    load: Callable[[int | None, str, int, list[Category]], list[Task]]
    """Number, split, seed and categories -> tasks."""
    splits: tuple[str, ...]
    """The first one is the default."""


def _benchmark(n: int | None, split: str, seed: int, categories: list[Category]) -> list[Task]:
    if n is not None or seed:
        raise ValueError("n and seed are for procedural tasks ('synth', 'chains'). Leave them out for 'bfcl'")
    return [task for task in select(bfcl.load(), split) if task.category in categories]


def _procedural(make: Callable[[int, str, int, list[Category]], list[Task]]) -> Source:
    return Source(lambda n, *rest: make(PROCEDURAL if n is None else n, *rest), synth.SPLITS)


SOURCES = {
    "bfcl": Source(_benchmark, tuple(Split)),
    "synth": _procedural(synth.load),
    "chains": _procedural(synth.chains),
}
"""The sources by name. `load_tasks` and the stages of training know no others."""


def load_tasks(
    source: str = "bfcl",
    *,
    n: int | None = None,
    split: str | None = None,
    seed: int = 0,
    categories: Iterable[str] | None = None,
) -> list[Task]:
    """Tasks of a source.

    Args:
        source: `"bfcl"`: the 800 multi-turn instances of the benchmark, in its order (by category, then id number).
            `"synth"`: procedural tasks over the same simulators, categories in turn. `"chains"`: procedural tasks of
            one request each that needs several calls, kinds in turn.
        n: number of procedural tasks, by default 64. The first m of n tasks do not depend on n.
        split: for `bfcl` `all` (default), `train`, `val`, `test` or `heldout` (val + test), by id number. For
            procedural tasks `train` (default), `val`, `test` or `ood` (kinds and domains that training never sees).
        seed: for procedural tasks only. Another seed gives other tasks, with other ids.
        categories: some of `base`, `miss_func`, `miss_param`, `long_context`. Default: all four.

    Raises:
        ValueError: unknown source, category or split, or a benchmark file that was changed.
        ModuleNotFoundError: the benchmark package is missing. The message says how to install it.
    """
    wanted = _categories(categories)
    if source not in SOURCES:
        raise ValueError(f"unknown task source {source!r}. Known: {', '.join(map(repr, SOURCES))}")
    found = SOURCES[source]
    return found.load(n, split or found.splits[0], seed, [category for category in Category if category in wanted])


def _categories(names: Iterable[str] | None) -> set[Category]:
    if names is None:
        return set(Category)
    names = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in names if name not in set(Category)]
    if unknown or not names:
        raise ValueError(f"unknown categories {unknown}. Known: {', '.join(Category)}")
    return {Category(name) for name in names}
