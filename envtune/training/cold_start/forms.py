"""Forms: a tool, values for its arguments in any order, and the call that has them all.

In: a random generator. Out: `Dialogue`s of one request and one call. No simulator is asked; nothing is learned but to
copy values from the text to where they belong, to the digit. Half of what a form's call holds is values, against a
fifth in other dialogues, so that copying is learned early.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from envtune.data import synth
from envtune.data.synth_values import FOLDERS, NAME_PARTS, NOUNS, STEMS, VERBS
from envtune.policy.chat import render_calls
from envtune.training.cold_start.dialogues import SINGLES, Dialogue
from envtune.types import JSON, ToolCall

ASKED = ("{tool} , {form}", "call {tool} with {form}", "please {tool} {form}", "{form} , {tool}")
"""How a request names its tool."""
NAMELESS = 0.3
"""Share of requests that leave the tool to be told by its arguments."""
OFFERED = (1, 3)
"""Least and most tools of a form."""


def form(rng: random.Random) -> Dialogue:
    """One request and its call."""
    tools = rng.sample(_tools(), rng.randint(*OFFERED))
    tool = rng.choice([tool for tool in tools if _properties(tool)] or [rng.choice(_with_arguments())])
    tools = tools if tool in tools else [tool, *tools]
    arguments = {key: _value(schema["type"], rng) for key, schema in _properties(tool).items()}
    said = [f"{key.replace('_', ' ').lower()} {_said(value)}" for key, value in arguments.items()]
    rng.shuffle(said)
    name = tool["function"]["name"]
    alike = sum(set(arguments) <= set(_properties(other)) for other in tools)
    wording = "{form}" if alike == 1 and rng.random() < NAMELESS else rng.choice(ASKED)
    text = wording.format(tool=name, form=" , ".join(said))
    dialogue = Dialogue(tuple(sorted(tools, key=lambda tool: str(tool["function"]["name"]))))
    dialogue.messages.append({"role": "user", "content": text})
    dialogue.say(render_calls([ToolCall(name, arguments)]))
    return dialogue


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
        return [_word(rng) for _ in range(rng.randint(1, 3))]
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
            rng.choice(_filler()),
            "".join(rng.choices("0123456789", k=rng.randint(2, 5))),
            "".join(rng.choices("0123456789", k=3)),
        )
    )


@cache
def _filler() -> tuple[str, ...]:
    return tuple(word for word in synth.vocabulary() if word.isalpha() and word.islower() and len(word) > 1)


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return " and ".join(value) if isinstance(value, list) else str(value)
