"""Forms: a tool, values for its arguments in any order, and the call that has them all.

In: a random generator. Out: `Dialogue`s of one request, or of a request that passes through a first tool, whose result
goes into an argument of the second. No simulator is asked, the results are made up. The policy only learns to copy
values exactly from the text to where they belong. Values make up half of a form's call, but a fifth of the calls in
other dialogues, so copying is learned early.
"""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

from envtune.chat import render_calls
from envtune.cold_start.dialogues import SINGLES, Dialogue
from envtune.cold_start.pairs import TRUE_PAIRS
from envtune.data import synth
from envtune.data.synth_values import FOLDERS, NAME_PARTS, NOUNS, POOLS, STEMS, VERBS
from envtune.types import JSON, ToolCall

WORDED = (
    "{word} {value}",
    "{word} {value}",
    "{word} is {value}",
    "the {word} is {value}",
    "my {word} is {value}",
    "{value} as the {word}",
    "with {word} {value}",
    "use {value} as the {word}",
)
"""Wordings with which a request gives a value."""
ASKED = ("{tool} , {form}", "call {tool} with {form}", "please {tool} {form}", "{form} , {tool}")
"""Wordings with which a request names its tool."""
NAMELESS = 0.3
"""Share of requests that do not name the tool, so that it must be inferred from its arguments."""
OFFERED = (1, 3)
"""Least and most tools of a form."""
RELAYED = 0.35
"""Share of forms that pass through a first tool."""
RETURNED = ("id", "user_id", "code", "value", "price", "number", "zipcode", "symbol", "token", "name", "result")
"""Keys of made-up results."""


def form(rng: random.Random) -> Dialogue:
    """One request and its calls."""
    return _relay(rng) if rng.random() < RELAYED else _filled(rng)


def _filled(rng: random.Random) -> Dialogue:
    tool = rng.choice(_with_arguments())
    tools = _around([tool], rng)
    arguments = _arguments(tool, rng)
    alike = sum(set(arguments) <= set(_properties(other)) for other in tools)
    wording = "{form}" if alike == 1 and rng.random() < NAMELESS else rng.choice(ASKED)
    dialogue = Dialogue(tools)
    dialogue.messages.append({"role": "user", "content": wording.format(tool=_name(tool), form=_form(arguments, rng))})
    dialogue.say(render_calls([ToolCall(_name(tool), arguments)]))
    return dialogue


def _relay(rng: random.Random) -> Dialogue:
    """A first tool, called once or twice, and a second one that takes its results."""
    first, second = rng.sample(_with_arguments(), 2)
    slots = [key for key, schema in _properties(second).items() if schema["type"] in _RETURNS]
    slots = rng.sample(slots, min(len(slots), rng.choice((1, 1, 2))))
    if not slots or (_name(second), _name(first)) in TRUE_PAIRS:
        return _filled(rng)
    given = [_arguments(first, rng) for _ in slots]
    arguments = _arguments(second, rng)
    key = rng.choice(RETURNED)
    rest = {name: value for name, value in arguments.items() if name not in slots}
    targets = " and ".join(_spaced(slot) for slot in slots)
    text = f"{_name(first)} {' and '.join(_form(each, rng) for each in given)} , then {_name(second)}"
    text += f" with the {key} as {targets}" + (f" , {_form(rest, rng)}" if rest else "")
    dialogue = Dialogue(_around([first, second], rng))
    dialogue.messages.append({"role": "user", "content": text})
    for slot, each in zip(slots, given, strict=True):
        arguments[slot] = value = _value(_properties(second)[slot]["type"], rng)
        dialogue.say(render_calls([ToolCall(_name(first), each)]))
        others = {name: _word(rng) for name in rng.sample(RETURNED, rng.choice((0, 0, 1, 2))) if name != key}
        items = [(key, ", ".join(value) if isinstance(value, list) and rng.random() < 0.5 else value), *others.items()]
        rng.shuffle(items)
        dialogue.messages.append({"role": "tool", "name": _name(first), "content": json.dumps(dict(items))})
    dialogue.say(render_calls([ToolCall(_name(second), arguments)]))
    return dialogue


_RETURNS = ("string", "integer", "number", "float", "array")


def _around(tools: list[JSON], rng: random.Random) -> tuple[JSON, ...]:
    """These tools among others, as a task would list them."""
    others = [tool for tool in rng.sample(_tools(), rng.randint(*OFFERED)) if tool not in tools]
    return tuple(sorted([*tools, *others], key=_name))


def _arguments(tool: JSON, rng: random.Random) -> JSON:
    return {key: _value(schema["type"], rng) for key, schema in _properties(tool).items()}


def _form(arguments: JSON, rng: random.Random) -> str:
    """The arguments as a user gives them."""
    said = [rng.choice(WORDED).format(word=_spaced(key), value=_said(value)) for key, value in arguments.items()]
    rng.shuffle(said)
    return " , ".join(said)


def _spaced(argument: str) -> str:
    return argument.replace("_", " ").lower()


def _name(tool: JSON) -> str:
    return str(tool["function"]["name"])


@cache
def _tools() -> list[JSON]:
    """Every tool that tasks of the train split offer."""
    tasks = [instance.task() for instance in synth.generate(400, "train", seed=1, kinds=SINGLES)]
    found = {tool["function"]["name"]: tool for task in tasks for tool in task.tools}
    return [found[name] for name in sorted(found)]


@cache
def _with_arguments() -> list[JSON]:
    return [tool for tool in _tools() if _properties(tool)]


def _properties(tool: JSON) -> JSON:
    properties: JSON = tool["function"]["parameters"]["properties"]
    return properties


def _value(kind: str, rng: random.Random) -> Any:
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "array":
        return [_word(rng) for _ in range(rng.randint(1, 2))]
    if kind == "integer":
        return _number(rng)
    if kind == "number":
        return _number(rng) if rng.random() < 0.6 else round(rng.uniform(1, 100), rng.randint(1, 6))
    return _word(rng)


def _number(rng: random.Random) -> int:
    return rng.randrange(1, 10 ** rng.randint(1, 4))


def _word(rng: random.Random) -> str:
    """A name, words, a file, an ID or a number."""
    return rng.choice(
        (
            rng.choice(NAME_PARTS[0]) + rng.choice(NAME_PARTS[1]),
            rng.choice(NAME_PARTS[0]) + rng.choice(NAME_PARTS[1]),
            f"{rng.choice(VERBS)} {rng.choice(NOUNS)}",
            f"{rng.choice(STEMS)}{rng.randrange(10)}.txt",
            f"{rng.choice(FOLDERS)}{rng.randrange(10)}",
            f"USR{rng.randrange(1000):03d}",
            rng.choice(_proper()),
            rng.choice(_proper()),
            rng.choice(_filler()),
            "".join(rng.choices("0123456789", k=rng.randint(2, 5))),
            "".join(rng.choices("0123456789", k=3)),
        )
    )


@cache
def _proper() -> tuple[str, ...]:
    """Cities, companies and their codes."""
    parts = {str(part) for pool in ("zip_city", "air_city", "company") for item in POOLS[pool].items for part in item}
    return tuple(sorted(part for part in parts if part and not part.isdigit() and part != "None"))


@cache
def _filler() -> tuple[str, ...]:
    return tuple(word for word in synth.vocabulary() if word.isalpha() and word.islower() and len(word) > 1)


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return " and ".join(value) if isinstance(value, list) else str(value)
