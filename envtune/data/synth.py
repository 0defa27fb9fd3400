"""Procedural tasks: instances in the benchmark's own file format over the same eight simulators.

In: how many, split, seed, categories. Out: `Instance`s (a data-file entry and its answer) or `Task`s. A task is a
sequence of one to four user turns. Each asks for one kind of `synth_kinds`, over worlds of `synth_worlds`, with values
of `synth_values`. The same arguments give the same tasks in any process.

There are two departures from the benchmark. A task offers a few plausible tools instead of all tools of its simulators.
The rest stand in `excluded_function`, which the official runner does not read, so official code sees them all. And an
entry has a further key `kinds`, the kind of each turn.

- `miss_func`: the goal tool of one request is withheld and handed over in the turn after it.
- `miss_param`: one request leaves a value out, and the next turn gives it.
- `long_context`: simulators load padded. Only kinds whose results stay short occur, and at least one state is padded.

`load` mixes requests as users do. `chains` makes practice tasks of a single request that needs several calls.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

from envtune.data.synth_compose import WAIT, Instance, UnsuitedError, compose
from envtune.data.synth_kinds import KINDS, SUPPLY, Kind
from envtune.data.synth_values import NAME_PARTS, POOLS, SPLIT_SHARES, ExhaustedError
from envtune.data.synth_worlds import DOMAINS
from envtune.types import Category, Task

__all__ = [
    "SPLITS",
    "WAIT",
    "Instance",
    "chains",
    "generate",
    "kinds_table",
    "load",
    "read_jsonl",
    "vocabulary",
    "write_jsonl",
]

SPLITS = tuple(SPLIT_SHARES)
SEED_STRIDE = 1_000_000
"""Ids count from `seed` times this, so that tasks of two seeds never share an id."""
DISTINCT_TRIES = 50
"""After this many draws that repeat an earlier answer, a repetition is accepted."""
MAX_TRIES = 2000


def load(
    n: int,
    split: str = "train",
    seed: int = 0,
    categories: Sequence[Category] = tuple(Category),
    kinds: Iterable[str] | None = None,
) -> list[Task]:
    """`generate`, as tasks."""
    return [instance.task() for instance in generate(n, split, seed, categories, kinds)]


def generate(
    n: int,
    split: str = "train",
    seed: int = 0,
    categories: Sequence[Category] = tuple(Category),
    kinds: Iterable[str] | None = None,
) -> list[Instance]:
    """`n` instances, categories in turn. The first m of them do not depend on `n`.

    Args:
        n: how many, at most `SEED_STRIDE`.
        split: `train`, `val`, `test` or `ood`.
        seed: not negative.
        categories: at least one.
        kinds: names of the kinds to draw from. Default: all kinds of the split except half chains.

    Raises:
        ValueError: an argument is out of range, or no task can be made from these kinds.
    """
    _check(n, split, seed)
    allowed = _allowed(split, kinds)
    seen: set[str] = set()
    return [_distinct(allowed, split, categories[i % len(categories)], seed * SEED_STRIDE + i, seen) for i in range(n)]


def chains(n: int, split: str = "train", seed: int = 0, categories: Sequence[Category] = tuple(Category)) -> list[Task]:
    """`n` tasks of one request each, a chain or a half chain. Categories and kinds take turns.

    A kind with few different answers repeats them here, while `load` would skip it. Ids differ from those of `load`.

    Raises:
        ValueError: as in `generate`.
    """
    _check(n, split, seed)
    kinds = {category: _chains(split, category) for category in categories}
    made = []
    for i in range(n):
        category, turn = categories[i % len(categories)], i // len(categories)
        made.append(_chain(kinds[category][turn % len(kinds[category])], split, category, seed * SEED_STRIDE + i))
    return made


def _chains(split: str, category: Category) -> list[Kind]:
    """The kinds that alone suffice for a task of the category."""
    found = [kind for kind in KINDS.values() if split in kind.splits and kind.chain]
    if category is Category.MISS_PARAM:
        return [kind for kind in found if kind.hold]
    if category is Category.LONG_CONTEXT:
        return [kind for kind in found if kind.long and DOMAINS[kind.domain].padded]
    return found


def _chain(kind: Kind, split: str, category: Category, number: int) -> Task:
    for attempt in range(MAX_TRIES):
        rng = random.Random(f"envtune chain {split} {category} {kind.name} {number} {attempt}")
        try:
            task = compose(rng, [kind], split, category, number).task()
        except (ExhaustedError, UnsuitedError):
            continue
        if [name for name in task.kinds if name != WAIT] == [kind.name]:
            return replace(task, id=f"chain_{split}_{category}_{number}")
    raise ValueError(f"no {category} task can be made from the kind {kind.name} alone")


def _check(n: int, split: str, seed: int) -> None:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r} of procedural tasks. Known: {', '.join(SPLITS)}")
    if not 0 <= n <= SEED_STRIDE or seed < 0:
        raise ValueError(f"n is {n} and seed is {seed}: n must be 0 to {SEED_STRIDE} and seed not negative")


def _allowed(split: str, names: Iterable[str] | None) -> list[Kind]:
    held = {kind.name: kind for kind in KINDS.values() if split in kind.splits}
    if names is None:
        return [kind for kind in held.values() if not kind.half]
    names = list(names)
    if unknown := [name for name in names if name not in held]:
        raise ValueError(f"unknown kinds {unknown} in split {split!r}. Known: {', '.join(held)}")
    return [held[name] for name in names]


def _distinct(allowed: list[Kind], split: str, category: Category, number: int, seen: set[str]) -> Instance:
    """An instance whose answer differs from all earlier ones, as far as the simulators can tell (`_signature`)."""
    made = None
    for attempt in range(MAX_TRIES):
        if made is not None and attempt >= DISTINCT_TRIES:
            return made
        rng = random.Random(f"envtune synth {split} {category} {number} {attempt}")
        try:
            made = compose(rng, allowed, split, category, number)
        except (ExhaustedError, UnsuitedError):
            continue
        signature = _signature(made.ground_truth)
        if signature not in seen:
            seen.add(signature)
            return made
    if made is not None:
        return made
    raise ValueError(f"no {category} task can be made from the kinds {', '.join(kind.name for kind in allowed)}")


def _signature(ground_truth: list[list[str]]) -> str:
    """The answer without what no simulator reads: the trader's name, passwords, the day of a fare."""
    return re.sub(r"trading_login\([^)]*\)|, password='\w+'|-\d\d-\d\d", "", repr(ground_truth))


def write_jsonl(instances: Iterable[Instance], path: Path) -> None:
    """Write entries to `path` and answers to `possible_answer/` next to it, as in the benchmark's data folder."""
    answers = path.parent / "possible_answer" / path.name
    answers.parent.mkdir(parents=True, exist_ok=True)
    instances = list(instances)
    path.write_text("".join(json.dumps(i.entry) + "\n" for i in instances))
    answers.write_text(
        "".join(json.dumps({"id": i.entry["id"], "ground_truth": i.ground_truth}) + "\n" for i in instances)
    )


def read_jsonl(path: Path) -> list[Instance]:
    """The instances that `write_jsonl` wrote, without their naive calls.

    Raises:
        ValueError: entries and answers do not have the same ids in the same order.
    """
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    answers = [json.loads(line) for line in (path.parent / "possible_answer" / path.name).read_text().splitlines()]
    if [entry["id"] for entry in entries] != [answer["id"] for answer in answers]:
        raise ValueError(f"{path} and its file under possible_answer/ do not hold the same ids in the same order")
    return [Instance(entry, answer["ground_truth"]) for entry, answer in zip(entries, answers, strict=True)]


def kinds_table() -> list[dict[str, Any]]:
    """One row per kind: `kind`, `domain`, `type` (chain or single), number of `calls`, `tools`, `splits`."""
    return [
        {
            "kind": kind.name,
            "domain": " + ".join(kind.domains),
            "type": "half chain" if kind.half else "chain" if kind.chain else "single",
            "calls": len(kind.calls),
            "tools": ", ".join(kind.tools),
            "splits": ", ".join(kind.splits),
        }
        for kind in KINDS.values()
    ]


_ATOM = re.compile(r"[A-Za-z_]+|\d|[^\w\s]")


@cache
def vocabulary() -> tuple[str, ...]:
    """The parts of user turns and arguments, sorted: words, parts of names, digits, punctuation.

    Every such text splits into these by longest match, apart from spaces. Names of tools and arguments, and the
    simulators' own words in results, are not included.
    """
    texts = [template for kind in KINDS.values() for split in SPLITS for template in getattr(kind, split)]
    texts += [template for templates in SUPPLY.values() for template in templates]
    literal = [text for template in texts for text, *_ in Formatter().parse(template)]
    literal += [hold for kind in KINDS.values() if kind.hold for hold in (kind.hold[0], *_literal(kind.hold[1]))]
    literal += [text for kind in KINDS.values() for call in kind.calls for text in re.findall(r"'([^'{}]*)'", call)]
    literal += [
        str(part) for name, pool in POOLS.items() if name != "name" for item in pool.items for part in _flat(item)
    ]
    literal += ["0123456789", "home", "USR", "True", "False", "-", *NAME_PARTS[0], *NAME_PARTS[1]]
    return tuple(sorted({atom for text in literal for atom in _ATOM.findall(text)} - {"<", ">"}))


def _literal(template: str) -> list[str]:
    return [text for text, *_ in Formatter().parse(template)]


def _flat(item: Any) -> Iterator[Any]:
    if isinstance(item, tuple | list):
        for part in item:
            yield from _flat(part)
    else:
        yield item
