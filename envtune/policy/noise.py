"""Almost-right behaviour: the ground truth with the mistakes that language models make.

In: a task, rates, a seed. Out: call trajectories, turns of steps of calls, for `envtune.replay`, for the comparison
with the official checker, and for `NoisyOracle`. A pure function of (task, rates, seed). It does not see results, so it
either goes on after an error as if nothing had happened, or makes the correct call as well.

The mistakes stay harmless on purpose, because the official executor evaluates them. Numbers stay near the ground
truth's, nothing is copied or moved onto itself, and no made-up tool name means anything to Python.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from envtune.types import JSON, Task, ToolCall

Calls = list[list[list[ToolCall]]]
"""Turns of steps of calls."""

_WORDS = ("notes.txt", "temp", "alice", "ABC", "USD", "2024-05-01", "engage", "Rivermist", "90210", "None", "")
"""Strings for arguments that were not asked for."""
_LARGE = 1000
"""A number above this is never turned into a string or a list: `5000 * "5000"` would be a long answer."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Rates of mistakes, each an independent probability per call unless it says otherwise.

    Raises:
        ValueError: a rate is not a probability.
    """

    drop_argument: float = 0.02
    rename_argument: float = 0.02
    retype_argument: float = 0.02
    """A value of another JSON type."""
    change_value: float = 0.02
    """Another value of the same JSON type."""
    wrong_tool: float = 0.02
    """Another tool of the task, or one that does not exist, with the same arguments."""
    wrong_order: float = 0.02
    """Per turn: two neighbouring calls change places."""
    skip_call: float = 0.02
    needless_call: float = 0.02
    """A call of some tool of the task, with plausible arguments, before the correct call."""
    act_unasked: float = 0.02
    """Per turn with empty ground truth: a call nevertheless, the next turn's first or a needless one."""
    broken_json: float = 0.02
    """Per message. No effect on `perturb`, which makes no text."""
    cut_off: float = 0.02
    """Per message: cut inside its last call. No effect on `perturb`."""
    recover: float = 0.5
    """After a changed call: make the correct one as well. This is no mistake, so `level` does not set it."""
    parallel: float = 0.2
    """A call joins the one before it in the same message. This is no mistake, so `level` does not set it."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= (rate := getattr(self, field.name)) <= 1:
                raise ValueError(f"noise rate {field.name} is {rate}. It must be a probability, from 0 to 1")

    @classmethod
    def level(cls, share: float) -> Noise:
        """Noise that hits about `share` (0 to 1) of the calls, spread evenly over the kinds of mistakes."""
        if not 0 <= share <= 1:
            raise ValueError(f"noise level is {share}. It must be a share of the calls, from 0 to 1")
        mistakes = [field.name for field in fields(cls) if field.name not in ("recover", "parallel")]
        return cls(**{name: share / len(mistakes) for name in mistakes})


def seeded(task: Task, seed: int, purpose: str) -> random.Random:
    """A generator that depends only on its arguments, not on the process or on earlier draws."""
    return random.Random(f"{seed}/{task.id}/{purpose}")


def perturb(task: Task, noise: Noise, seed: int) -> Calls:
    """The ground truth of `task` with mistakes: turns of steps of calls, as many turns as the task has.

    The same arguments give the same trajectory in every process.
    """
    rng = seeded(task, seed, "calls")
    return [_turn(task, turn, noise, rng) for turn in range(task.n_turns)]


def _turn(task: Task, turn: int, noise: Noise, rng: random.Random) -> list[list[ToolCall]]:
    steps: list[list[ToolCall]] = []
    for call in _calls(task, turn, noise, rng):
        if steps and _hit(noise.parallel, rng):
            steps[-1].append(call)
        else:
            steps.append([call])
    return steps


def _calls(task: Task, turn: int, noise: Noise, rng: random.Random) -> Iterator[ToolCall]:
    right = list(task.ground_truth[turn])
    if not right and _hit(noise.act_unasked, rng):
        ahead = task.ground_truth[turn + 1] if turn + 1 < task.n_turns else ()
        yield ahead[0] if ahead and _hit(0.5, rng) else _needless(task, turn, rng)
    if len(right) > 1 and _hit(noise.wrong_order, rng):
        i = rng.randrange(len(right) - 1)
        right[i], right[i + 1] = right[i + 1], right[i]
    for call in right:
        if _hit(noise.needless_call, rng):
            yield _needless(task, turn, rng)
        if _hit(noise.skip_call, rng):
            continue
        changed = _change(call, task, turn, noise, rng)
        yield changed
        if changed != call and _hit(noise.recover, rng):
            yield call


def _hit(rate: float, rng: random.Random) -> bool:
    return rng.random() < rate


def _change(call: ToolCall, task: Task, turn: int, noise: Noise, rng: random.Random) -> ToolCall:
    """`call` with mistakes, or `call` itself if they would not be harmless."""
    mistakes = (
        (noise.drop_argument, _drop_argument),
        (noise.rename_argument, _rename_argument),
        (noise.retype_argument, _retype_argument),
        (noise.change_value, partial(_change_value, task)),
    )
    changed = call
    for rate, mistake in mistakes:
        if _hit(rate, rng) and changed.arguments:
            changed = mistake(changed, rng)
    if _hit(noise.wrong_tool, rng):
        changed = _wrong_tool(task, turn, changed, rng)
    return changed if _harmless(changed) else call


def _drop_argument(call: ToolCall, rng: random.Random) -> ToolCall:
    dropped = rng.choice(list(call.arguments))
    return ToolCall(call.name, {name: value for name, value in call.arguments.items() if name != dropped})


def _rename_argument(call: ToolCall, rng: random.Random) -> ToolCall:
    old = rng.choice(list(call.arguments))
    new = old.replace("_", "") if "_" in old else f"{old}_value"
    return ToolCall(call.name, {new if name == old else name: value for name, value in call.arguments.items()})


def _retype_argument(call: ToolCall, rng: random.Random) -> ToolCall:
    name = rng.choice(list(call.arguments))
    value = call.arguments[name]
    large = any(isinstance(v, int | float) and abs(v) > _LARGE for v in call.arguments.values())
    choices: list[Any] = [None]
    if isinstance(value, bool):
        choices += ["true", "yes"]
    elif isinstance(value, int | float) and not large:
        choices += [str(value), [value]]
    elif isinstance(value, str):
        choices += [7, True, [value]]
    elif isinstance(value, list | dict):
        choices += ["all", 0]
    return ToolCall(call.name, {**call.arguments, name: rng.choice(choices)})


def _change_value(task: Task, call: ToolCall, rng: random.Random) -> ToolCall:
    name = rng.choice(list(call.arguments))
    return ToolCall(call.name, {**call.arguments, name: _other_value(task, name, call.arguments[name], rng)})


def _other_value(task: Task, name: str, value: Any, rng: random.Random) -> Any:
    """Another value of the same JSON type. Numbers keep their sign and magnitude."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + rng.choice((1, 2, 10))
    if isinstance(value, float):
        return round(value * 1.1 + rng.choice((0.5, 1.0)), 2)
    if isinstance(value, list):
        return rng.choice((value[:-1], value + value[:1], value[::-1]))
    if isinstance(value, dict):
        return dict(list(value.items())[:-1])
    if isinstance(value, str):
        others = [other for other in _seen(task, name) if isinstance(other, str) and other != value]
        return rng.choice([f"{value}_2", value.upper(), value.lower(), "", *others])
    return value


def _wrong_tool(task: Task, turn: int, call: ToolCall, rng: random.Random) -> ToolCall:
    made_up = (f"{call.name}_v2", f"get_{call.name}_now", call.name.replace("_", "") + "Tool")
    known = [tool["function"]["name"] for tool in task.tools_at(turn)]
    return ToolCall(rng.choice(known if _hit(0.6, rng) else made_up), call.arguments)


def _needless(task: Task, turn: int, rng: random.Random) -> ToolCall:
    """A call of a random tool with arguments that fit its schema."""
    while True:
        function = rng.choice(task.tools_at(turn))["function"]
        schema = function["parameters"]
        required = schema.get("required", ())
        arguments = {
            name: _plausible(task, name, prop, rng)
            for name, prop in schema["properties"].items()
            if name in required or _hit(0.5, rng)
        }
        if _harmless(call := ToolCall(function["name"], arguments)):
            return call


def _plausible(task: Task, name: str, schema: JSON, rng: random.Random) -> Any:
    seen = _seen(task, name)
    if seen and _hit(0.7, rng):
        return rng.choice(seen)
    kind = schema.get("type")
    if kind == "integer":
        return rng.randint(0, 9)
    if kind == "number":
        return rng.choice((0.0, 1.0, 2.5, 40.0))
    if kind == "boolean":
        return _hit(0.5, rng)
    if kind == "array":
        return [_plausible(task, name, schema.get("items", {}), rng) for _ in range(rng.randint(0, 3))]
    return {} if kind == "object" else rng.choice(_WORDS)


def _seen(task: Task, name: str) -> list[Any]:
    """Values that the ground truth gives to arguments of this name."""
    return [call.arguments[name] for turn in task.ground_truth for call in turn if name in call.arguments]


def _harmless(call: ToolCall) -> bool:
    """Whether no directory is copied into itself: it would contain itself, and the benchmark would recurse forever."""
    arguments = call.arguments
    return call.name not in ("cp", "mv") or arguments.get("source") != arguments.get("destination")
