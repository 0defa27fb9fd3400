"""One procedural task: from a random generator to an `Instance`.

In: the kinds allowed, split, category, number. Out: an entry and its answer. First comes the sequence of kinds. Each
kind must be possible in the state that the earlier ones leave. Then come worlds and values, then the turns, with the
one that the category changes, and last the few tools that the task offers.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from envtune.data import bfcl
from envtune.data.synth_kinds import KINDS, SUPPLY, Kind
from envtune.data.synth_values import ExhaustedError, Values
from envtune.data.synth_worlds import DOMAINS, World
from envtune.types import JSON, Category, Task

WAIT = "wait"
"""The kind of a turn in which the agent should not act, because a tool or a value is missing."""
CHAIN_SHARE = 0.7
"""Share of turns that are chains, where the state allows one."""
SAME_DOMAIN = 0.6
"""Share of later turns that stay with the simulators already in play, where one fits."""
REQUESTS = {1: 4, 2: 3, 3: 2, 4: 1}
"""Number of requests -> weight. A missing tool or value adds a turn to a request, so there are then at most three."""
MAX_TOOLS = 8


@dataclass(frozen=True, eq=False)
class Instance:
    """One line of a data file and of its answer file."""

    entry: JSON
    ground_truth: list[list[str]]
    """Per turn, calls such as `"cd(folder='work3')"`."""
    naive: tuple[str, ...] = ()
    """Per turn: for a chain the goal call without its preconditions, else empty. Not part of the file format."""

    def task(self) -> Task:
        """The record that the environment plays."""
        task = bfcl.make_task(self.entry, self.ground_truth, _documents())
        hidden = set(task.excluded_functions)
        return replace(task, tools=tuple(tool for tool in task.tools if tool["function"]["name"] not in hidden))


@cache
def _documents() -> dict[str, list[JSON]]:
    return bfcl.tool_documents()


class UnsuitedError(Exception):
    """This sequence of kinds has no room for what the category needs. The generator starts the task again."""


@dataclass(frozen=True)
class _Request:
    """One kind with its values."""

    kind: Kind
    wording: str
    values: dict[str, Any]

    @property
    def calls(self) -> list[str]:
        return [self._fill(call) for call in self.kind.calls]

    @property
    def naive(self) -> str:
        return self._fill(self.kind.naive)

    @property
    def whole(self) -> str:
        return self.wording.replace("<", "").replace(">", "").format(**self.values)

    @property
    def partial(self) -> str:
        """The request without the value between `<` and `>`."""
        return re.sub("<.*?>", "", self.wording).format(**self.values)

    def supply(self, wording: str) -> str:
        """The sentence that gives the value left out."""
        assert self.kind.hold is not None
        label, value = self.kind.hold
        return wording.format(label=label, value=value.format(**self.values))

    def _fill(self, call: str) -> str:
        return call.format(**self.values).format(**self.values)


@dataclass(frozen=True)
class _Turn:
    """The part of the files for one user turn. `text` is None where withheld tools are handed over."""

    text: str | None
    calls: tuple[str, ...] = ()
    kind: str = WAIT
    naive: str = ""
    handed_over: str = ""


def compose(rng: random.Random, allowed: list[Kind], split: str, category: Category, number: int) -> Instance:
    """An instance with the id number `number`.

    Raises:
        UnsuitedError, ExhaustedError: this draw gave no task. Draw again.
    """
    kinds, starts = _sequence(rng, allowed, category)
    values = Values(rng, split)
    worlds = {cls: domain.world(values) for cls, domain in DOMAINS.items() if cls in starts}
    requests = _requests(kinds, worlds, values)
    turns = list(_turns(rng, requests, split, category))
    offered = _offered(rng, kinds)
    names = [doc["name"] for cls in starts for doc in _documents()[cls]]
    entry = {
        "id": f"synth_{split}_{category}_{number}",
        "question": [[{"role": "user", "content": turn.text}] if turn.text is not None else [] for turn in turns],
        "initial_config": {cls: DOMAINS[cls].config(worlds[cls], label) for cls, label in starts.items()},
        "involved_classes": list(starts),
        "missed_function": {str(i): [turn.handed_over] for i, turn in enumerate(turns) if turn.handed_over},
        "excluded_function": [name for name in names if name not in offered],
        "kinds": [turn.kind for turn in turns],
    }
    return Instance(entry, [list(turn.calls) for turn in turns], tuple(turn.naive for turn in turns))


def _sequence(rng: random.Random, allowed: list[Kind], category: Category) -> tuple[list[Kind], dict[str, str]]:
    """Different kinds, each possible in the state that the earlier ones leave, and each simulator's start label."""
    padded = category is Category.LONG_CONTEXT
    pool = [kind for kind in allowed if kind.long or not padded]
    longest = 4 if category in (Category.BASE, Category.LONG_CONTEXT) else 3
    wanted = rng.choices(range(1, longest + 1), [REQUESTS[k] for k in range(1, longest + 1)])[0]
    kinds: list[Kind] = []
    starts: dict[str, str] = {}
    labels: dict[str, str] = {}
    while len(kinds) < wanted:
        fitting = [kind for kind in pool if kind not in kinds and _fits(kind, labels)]
        if padded and not kinds:
            fitting = [kind for kind in fitting if DOMAINS[kind.domain].padded]
        same = [kind for kind in fitting if set(kind.domains) <= set(labels)]
        if same and rng.random() < SAME_DOMAIN:
            fitting = same
        if not fitting:
            break
        kind = rng.choice(fitting) if padded and not kinds else _pick(rng, fitting)
        for cls in kind.domains:
            if cls not in labels:
                labels[cls] = starts[cls] = rng.choice(_starts(kind) if cls == kind.domain else DOMAINS[cls].starts)
        labels[kind.domain] = kind.after or labels[kind.domain]
        kinds.append(kind)
    if not kinds:
        raise UnsuitedError
    return kinds, {cls: starts[cls] for cls in DOMAINS if cls in starts}


def _fits(kind: Kind, labels: dict[str, str]) -> bool:
    if len({*labels, *kind.domains}) > 2:
        return False
    possible = (labels[kind.domain],) if kind.domain in labels else _starts(kind)
    return not kind.before or any(label in kind.before for label in possible)


def _starts(kind: Kind) -> tuple[str, ...]:
    """Labels from which a task may start with the kind. A half chain may have its own."""
    if kind.half and kind.before:
        return kind.before
    return tuple(label for label in DOMAINS[kind.domain].starts if not kind.before or label in kind.before)


def _pick(rng: random.Random, fitting: list[Kind]) -> Kind:
    chain = rng.random() < CHAIN_SHARE
    return rng.choice([kind for kind in fitting if kind.chain == chain] or fitting)


def _requests(kinds: list[Kind], worlds: dict[str, World], values: Values) -> list[_Request]:
    stock = {cls: {name: list(v) for name, v in world.items() if isinstance(v, list)} for cls, world in worlds.items()}
    requests = []
    for kind in kinds:
        known = {name: v for name, v in worlds[kind.domain].items() if not isinstance(v, list)}
        for name, source in kind.draws.items():
            if source.startswith("@"):
                left = stock[kind.domain][source[1:]]
                if not left:
                    raise ExhaustedError(f"no {source[1:]!r} is left for {kind.name!r}")
                known[name] = left.pop(values.rng.randrange(len(left)))
            else:
                known[name] = values.draw(source, kind.name)
        requests.append(_Request(kind, values.rng.choice(getattr(kind, values.split)), known))
    return requests


def _turns(rng: random.Random, requests: list[_Request], split: str, category: Category) -> Iterator[_Turn]:
    special = _special(rng, requests, category)
    for request in requests:
        solution = _Turn(request.whole, tuple(request.calls), request.kind.name, request.naive)
        if request is special and category is Category.MISS_FUNC:
            yield _Turn(request.whole)
            solution = replace(solution, text=None, handed_over=request.kind.tools[-1])
        elif request is special:
            yield _Turn(request.partial)
            solution = replace(solution, text=request.supply(rng.choice(SUPPLY[split])))
        yield solution


def _special(rng: random.Random, requests: list[_Request], category: Category) -> _Request | None:
    """The request whose goal tool or value is missing at first."""
    if category is Category.MISS_PARAM:
        suited = [r for r in requests if r.kind.hold is not None]
    elif category is Category.MISS_FUNC:
        tools = [name for r in requests for name in r.kind.tools]
        suited = [r for r in requests if tools.count(r.kind.tools[-1]) == 1]
    else:
        return None
    if not suited:
        raise UnsuitedError
    return rng.choice(suited)


def _offered(rng: random.Random, kinds: list[Kind]) -> set[str]:
    """The tools needed and a few others that tasks of the same domains need."""
    needed = {name for kind in kinds for name in kind.tools}
    if len(needed) > MAX_TOOLS:
        raise UnsuitedError
    domains = {cls for kind in kinds for cls in kind.domains}
    others = {
        name
        for kind in KINDS.values()
        if (kind.train or kinds[0].ood) and set(kind.domains) <= domains
        for name in kind.tools
    }
    room = min(MAX_TOOLS, max(5, len(needed) + 2)) - len(needed)
    free = sorted(others - needed)
    return needed | set(rng.sample(free, min(room, len(free))))
