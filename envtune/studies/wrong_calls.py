"""Calls that fail as those of real models do: wrong values, arguments, names, units or order, and withheld tools.

In: tasks, a number and a seed. Out: that many `Wrong` calls, each with the world in which it failed. The ground truth
of a task is played. Before each of its calls, one wrong call of every family is tried on a copy of the simulators, and
kept if it fails. The same arguments give the same failures in every process.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from envtune.environment.hints import Hint, hint, hinted_text
from envtune.environment.simulator import Simulators
from envtune.studies.literal import Wanted
from envtune.studies.scene import Scene
from envtune.studies.wrong_forms import FAMILIES, INVENTED, SAME_AIM, UNWANTED, Family, Place, calls_of
from envtune.types import JSON, Category, Task, ToolCall

LONG_SHARE = 0.1
"""Share of the long_context tasks that is used: their worlds are large, and their calls are those of `base`."""
AGAIN, HELPLESS = 0.15, 0.4
"""Share of failures that happen twice, and share of those that also get a hint without the tools that would help."""


@dataclass(frozen=True)
class Wrong:
    """A call that failed, or that did not do what it was to do."""

    family: str
    task_id: str
    scene: Scene
    wanted: Wanted
    means: frozenset[str]
    """The tools that an unknown name can mean. Empty for a known name."""
    tools: tuple[JSON, ...]


def wrong_calls(tasks: Sequence[Task], number: int, seed: int = 0) -> Iterator[Wrong]:
    """`number` failures, or as many as the tasks give in 50 rounds."""
    pool: dict[str, list[ToolCall]] = {}
    for task in tasks:
        for call in calls_of(task):
            pool.setdefault(call.name, []).append(call)
    found = _rounds(list(tasks), pool, seed)
    yield from (wrong for _, wrong in zip(range(number), found, strict=False))


def _rounds(tasks: list[Task], pool: dict[str, list[ToolCall]], seed: int) -> Iterator[Wrong]:
    for again in range(50):
        rng = random.Random(f"{seed}/{again}")
        rng.shuffle(tasks)
        for task in tasks:
            if task.category is not Category.LONG_CONTEXT or rng.random() < LONG_SHARE:
                yield from _of_task(task, pool, random.Random(f"{seed}/{again}/{task.id}"))


def _of_task(task: Task, pool: dict[str, list[ToolCall]], rng: random.Random) -> Iterator[Wrong]:
    """Play the ground truth, and fail before each of its calls in one way of every family."""
    live, observed = Simulators(task), []
    for turn, goals in enumerate(task.ground_truth):
        observed.append(task.user_turns[turn])
        for place, right in enumerate(goals):
            here = Place(task, turn, right, rng, pool)
            for family, make in FAMILIES.items():
                yield from _tried(family, make, here, goals[place:], live, observed)
            observed.append(live.call(right).text)


def _tried(
    family: str, make: Family, here: Place, ahead: Sequence[ToolCall], live: Simulators, observed: list[str]
) -> Iterator[Wrong]:
    """The failure of one wrong call, if it fails, and sometimes the same failure a second time."""
    call = make(here)
    if call is None:
        return
    world, seen = live.fork(), list(observed)
    if family in ("made twice", "added again"):
        for _ in range(1 if family == "made twice" else 3):
            seen.append(world.call(call).text)
    tools = _tools(family, here, call)
    schemas = {tool["function"]["name"]: tool["function"] for tool in tools}
    wanted = Wanted(None if family in UNWANTED else here.right, [*ahead, *calls_of(here.task)])
    means = _means(here, call)
    for _ in range(2 if here.rng.random() < AGAIN else 1):
        scene = Scene(call, world.call(call), world.fork(), schemas, tuple(seen))
        if (found := hint(call, scene.result, tools, seen)) is None:
            return
        yield Wrong(family, here.task.id, scene, wanted, means, tools)
        seen.append(hinted_text(scene.result.text, found))
        if here.rng.random() < HELPLESS and (left := _without(found, call, tools)) is not None:
            lone = replace(scene, schemas={tool["function"]["name"]: tool["function"] for tool in left})
            yield Wrong("help withheld", here.task.id, lone, wanted, means, left)
        family = "failed again"


def _without(found: Hint, call: ToolCall, tools: tuple[JSON, ...]) -> tuple[JSON, ...] | None:
    """The tools without those that a hint names, or None if it names none."""
    gone = set(re.findall(r"\w+", found.text)) - {call.name}
    left = tuple(tool for tool in tools if tool["function"]["name"] not in gone)
    return left if len(left) < len(tools) else None


def _tools(family: str, here: Place, call: ToolCall) -> tuple[JSON, ...]:
    """The tools of the turn, without the called one or some others where the family says so."""
    tools: tuple[JSON, ...] = here.task.tools_at(here.turn)
    if family == "tool withheld":
        return tuple(t for t in tools if t["function"]["name"] != call.name)
    if here.rng.random() < 0.15:
        gone = set(here.rng.sample(here.names, min(4, len(here.names)))) - {call.name}
        return tuple(t for t in tools if t["function"]["name"] not in gone)
    return tools


def _means(here: Place, call: ToolCall) -> frozenset[str]:
    if call.name in here.names:
        return frozenset()
    if call.name in INVENTED:
        return frozenset(INVENTED[call.name].split())
    return frozenset([here.right.name, *SAME_AIM.get(here.right.name, "").split()])
