"""An agent that makes mistakes and repairs them by reading: the test of whether a hint can be acted on.

`Repairer` knows the ground truth of each turn. But it makes mistakes: it forgets calls that others need first (a login,
a look-up, a folder, locked doors, the brake), uses a wrong name, forgets or misnames an argument, or gives it a wrong
type. It learns of the mistake only from the text of the result, which it reads with this skill:

- The name of a tool reminds it of the calls of that tool that it forgot. It makes them and repeats the failed call. If
  it forgot no call of that tool, it calls the tool only if it needs no argument.
- The name of the tool that it meant, or of an argument, reminds it of the correct one.
- It drops an argument that is named and does not belong there.
- A word for a type makes it correct arguments of another type.

It reads the hint if there is one, else the error. If the text names nothing, it goes on with the next call. So the
share of tasks that it solves measures what the text of the results is worth.

A pure function of (messages, task, seed): its earlier moves are replayed from the messages.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from envtune.chat import render_calls
from envtune.policy.base import Chat
from envtune.policy.noise import seeded
from envtune.types import JSON, Task, ToolCall

FORGETTABLE = frozenset(
    {"message_login", "authenticate_twitter", "ticket_login", "trading_login", "authenticate_travel"}
    | {"get_zipcode_based_on_city", "get_nearest_airport_by_city", "get_symbol_by_name", "get_user_id"}
    | {"lockDoors", "pressBrakePedal", "startEngine", "cd", "touch", "register_credit_card"}
)
"""Calls that others need first. They can be forgotten if a call follows in the turn. A text that names the tool reminds
the agent of them."""
LOOKUPS = {
    "get_zipcode_based_on_city": ("city", r"\d{5}"),
    "get_nearest_airport_by_city": ("location", r"[A-Z]{3}"),
    "get_symbol_by_name": ("name", r"[A-Z]{2,5}"),
    "get_user_id": ("user", r"USR\d+"),
}
"""Look-up -> its argument, and the form of its result. An agent that forgets the look-up uses the argument instead."""
PATIENCE = 4
"""Repairs of one call before the agent gives it up."""
ANSWER = "Done."

Playing = Generator[ToolCall | None, str, None]
"""Yields a call, or None to end the turn. It is sent the result, or the next user message."""


class Repairer:
    """Plays the ground truth with mistakes, and repairs them from the texts it reads.

    Args:
        forget: probability of forgetting a call that others may need.
        spoil: probability of making a call with a wrong name or a wrong argument.
        seed: of the mistakes. Every task draws its own from (seed, task id).

    Raises:
        ValueError: a rate is not a probability.
    """

    def __init__(self, forget: float = 0.4, spoil: float = 0.4, seed: int = 0) -> None:
        for name, rate in (("forget", forget), ("spoil", spoil)):
            if not 0 <= rate <= 1:
                raise ValueError(f"{name} is {rate}. It must be a probability, from 0 to 1")
        self.name = "repairer"
        self.settings: JSON = {"forget": forget, "spoil": spoil, "seed": seed}
        self.forget = forget
        self.spoil = spoil
        self.seed = seed

    def reply(self, chats: Sequence[Chat]) -> list[str]:
        """The next message of each chat: one call, or `ANSWER`."""
        return [self._next(chat) for chat in chats]

    def _next(self, chat: Chat) -> str:
        heard = [message["content"] for message in chat.messages if message["role"] in ("user", "tool")]
        playing = _episode(_Mind(chat.task, self.forget, self.spoil, seeded(chat.task, self.seed, "repair")))
        said = next(playing)
        for text in heard[1:]:
            said = playing.send(text)
        return ANSWER if said is None else render_calls([said])


@dataclass
class _Mind:
    """The agent's memory in one episode."""

    task: Task
    forget: float
    spoil: float
    rng: random.Random
    forgotten: list[ToolCall] = field(default_factory=list)
    found_by: dict[str, ToolCall] = field(default_factory=dict)
    """Value -> the look-up that returns it."""
    tools: dict[str, JSON] = field(default_factory=dict)
    """Name -> parameters, of the tools now available."""

    def meant(self, goal: ToolCall) -> ToolCall:
        """The call as far as the agent knows it: the result of a forgotten look-up is missing."""
        return ToolCall(goal.name, {name: self._known(value) for name, value in goal.arguments.items()})

    def _known(self, value: Any) -> Any:
        lookup = self.found_by.get(value) if isinstance(value, str) else None
        return lookup.arguments[LOOKUPS[lookup.name][0]] if lookup in self.forgotten and lookup else value


def _episode(mind: _Mind) -> Playing:
    for turn, goals in enumerate(mind.task.ground_truth):
        mind.tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in mind.task.tools_at(turn)}
        mind.found_by |= _found_by(goals)
        for goal in goals:
            needed_later = goal is not goals[-1] and _forgettable(goal, mind)
            if needed_later and mind.rng.random() < mind.forget:
                mind.forgotten.append(goal)
            else:
                meant = mind.meant(goal)
                spoiled = mind.rng.random() < mind.spoil
                yield from _attempt(goal, _spoil(meant, mind.rng) if spoiled else meant, mind)
        yield None


def _forgettable(goal: ToolCall, mind: _Mind) -> bool:
    return goal.name in FORGETTABLE and (goal.name not in LOOKUPS or goal in mind.found_by.values())


def _found_by(goals: Sequence[ToolCall]) -> dict[str, ToolCall]:
    """Value of a turn's calls -> the look-up that returns it: as many values as look-ups, in the same order."""
    found: dict[str, ToolCall] = {}
    for name, (_, shape) in LOOKUPS.items():
        lookups = [goal for goal in goals if goal.name == name]
        texts = [value for goal in goals for value in goal.arguments.values() if isinstance(value, str)]
        values = list(dict.fromkeys(text for text in texts if re.fullmatch(shape, text)))
        if len(values) == len(lookups):
            found |= dict(zip(values, lookups, strict=True))
    return found


def _attempt(goal: ToolCall, tried: ToolCall, mind: _Mind) -> Playing:
    """Make a call, and repair it as long as the texts say how."""
    asked: set[str] = set()
    for _ in range(PATIENCE + 1):
        text = yield tried
        advice = _advice(text)
        if advice is None:
            return
        better = _correct(tried, mind.meant(goal), advice, mind)
        if better == tried:
            tool = _reminder(advice, tried, asked, mind)
            if tool is None:
                return
            asked.add(tool)
            yield from _remember(tool, mind)
            better = mind.meant(goal)
        tried = better


def _advice(text: str) -> str | None:
    """The part of a result that the agent reads: the hint, else the error. None if nothing failed."""
    try:
        value = json.loads(text)
    except ValueError:
        return text if "rror" in text[:40] else None
    if not isinstance(value, dict):
        return None
    said = value.get("hint", value.get("error"))
    return None if said is None else str(said)


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z_]\w*", text)


_TYPE_WORDS = {
    "string": {"string", "str"},
    "integer": {"integer", "int"},
    "number": {"number", "numbers", "float"},
    "boolean": {"boolean", "bool"},
    "array": {"array", "list"},
    "object": {"object", "dictionary"},
}


def _correct(tried: ToolCall, meant: ToolCall, advice: str, mind: _Mind) -> ToolCall:
    """`tried` with those parts corrected of which the text reminds the agent."""
    words = set(_words(advice))
    name = meant.name if meant.name in words else tried.name
    arguments = dict(tried.arguments)
    for key in [key for key in arguments if key in words and key not in meant.arguments]:
        del arguments[key]
    properties = mind.tools.get(meant.name, {"properties": {}})["properties"]
    for key, value in meant.arguments.items():
        named = key in words
        kind = properties.get(key, {}).get("type")
        mistyped = key in arguments and type(arguments[key]) is not type(value) and words & _TYPE_WORDS.get(kind, set())
        if named or mistyped:
            arguments[key] = value
    return ToolCall(name, {key: arguments[key] for key in [*meant.arguments, *arguments] if key in arguments})


def _reminder(advice: str, tried: ToolCall, asked: set[str], mind: _Mind) -> str | None:
    """The first tool that the text names and that the agent can call: one it forgot, or one without arguments."""
    forgotten = {call.name for call in mind.forgotten}
    for word in _words(advice):
        known = word in forgotten or not mind.tools.get(word, {"required": [word]}).get("required")
        if known and word in mind.tools and word != tried.name and word not in asked:
            return word
    return tried.name if tried.name in forgotten and tried.name not in asked else None


def _remember(tool: str, mind: _Mind) -> Playing:
    """Make the forgotten calls of a tool, or a bare call if none was forgotten."""
    if not any(call.name == tool for call in mind.forgotten):
        yield ToolCall(tool, {})
    while call := next((call for call in mind.forgotten if call.name == tool), None):
        mind.forgotten.remove(call)
        yield from _attempt(call, mind.meant(call), mind)


def _spoil(call: ToolCall, rng: random.Random) -> ToolCall:
    """The call with a wrong name, or with one argument forgotten, misnamed or of a wrong type."""
    if not call.arguments or rng.random() < 0.25:
        return ToolCall(
            rng.choice((f"{call.name}_v2", f"do_{call.name}", call.name.replace("_", "") + "Tool")), call.arguments
        )
    key = rng.choice(list(call.arguments))
    how = rng.choice(("forget", "misname", "retype"))
    if how == "retype":
        return ToolCall(call.name, {**call.arguments, key: _retyped(call.arguments[key])})
    new = {"forget": (), "misname": ((f"{key}_value", call.arguments[key]),)}[how]
    return ToolCall(call.name, {**{k: v for k, v in call.arguments.items() if k != key}, **dict(new)})


def _retyped(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    return {"value": value} if isinstance(value, list | dict) else f"about {value}"
