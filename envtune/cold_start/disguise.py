"""Disguises: the same dialogue about other words, so that values are copied from the text and not memorised.

A million parameters memorise the few dozen names of the train split before they learn to copy. In half of the instances
every name, text, file, folder, city, company and symbol is replaced by random words of the vocabulary, before anything
is played. So no value of `val` or `test` is made up. In half of the dialogues with hints the helper has another name,
in the list of tools, in the hint and in the call. So the policy must read names of tools from the hint.
"""

from __future__ import annotations

import copy
import json
import random
import re
from functools import cache

from envtune.chat import parse_reply, render_calls
from envtune.cold_start.dialogues import Dialogue
from envtune.data import bfcl, synth
from envtune.data.synth import Instance
from envtune.data.synth_kinds import KINDS
from envtune.data.synth_values import NAME_PARTS, POOLS
from envtune.types import ToolCall

_OPEN = ("name", "text", "file", "folder", "street")
_TABLES = ("zip_city", "air_city", "company")


@cache
def _values() -> re.Pattern[str]:
    """All values that a disguise replaces, in any split."""
    found = {str(value) for pool in _OPEN for value in POOLS[pool].items}
    found |= {str(part) for pool in _TABLES for item in POOLS[pool].items for part in item if not str(part).isdigit()}
    return re.compile(r"\b(?:" + "|".join(sorted(map(re.escape, found - {""}), key=len, reverse=True)) + r")\b")


@cache
def _fillers() -> tuple[str, ...]:
    return tuple(word for word in synth.vocabulary() if word.isalpha() and word.islower() and len(word) > 1)


def disguise(instance: Instance, rng: random.Random) -> Instance:
    """The instance about other words. Each word has the same replacement everywhere."""
    kinds = instance.entry["kinds"]
    text = json.dumps([{**instance.entry, "kinds": [], "id": ""}, instance.ground_truth, instance.naive])
    others: dict[str, str] = {}

    def other(found: re.Match[str]) -> str:
        return others.setdefault(found[0], _like(found[0], rng))

    entry, ground_truth, naive = json.loads(_values().sub(other, text))
    entry |= {"kinds": kinds, "id": instance.entry["id"]}
    for key in ("involved_classes", "excluded_function", "missed_function"):
        entry[key] = instance.entry[key]
    return Instance(entry, ground_truth, tuple(naive))


def _like(value: str, rng: random.Random) -> str:
    """A word, two for a text, with the digits and the ending of a file."""
    words = rng.sample(_fillers(), 2)
    if value in _names():
        first, second = (rng.choice(parts) for parts in NAME_PARTS)
        return rng.choice(
            (words[0], first + words[0], words[0] + second, first + rng.choice(NAME_PARTS[0]), _code(rng))
        )
    if " " in value:
        return " ".join(words) if not value[0].isdigit() else f"{value.split()[0]} {words[0]} Street"
    digits = re.search(r"\d.*", value)
    return words[0] + (digits[0] if digits else words[1] if rng.random() < 0.5 else "")


_FREE = ("the", "please", "me", "my", "now", "a", "is", "what", "show", "i", "want", "to", "it", "here")
"""Words that a request can mostly lose or gain without harm."""


def reword(instance: Instance, rng: random.Random) -> Instance:
    """The instance in sloppier sentences: a few small words left out, "please" or "now" at the start or the end.

    A kind has two or three wordings in the train split, which are soon memorised. The important words keep their order.
    """
    kept = set(re.findall(r"\w+", str([instance.ground_truth, instance.naive])))
    entry = copy.deepcopy(instance.entry)
    for turn in entry["question"]:
        for message in turn:
            words = message["content"].split(" ")
            words = [word for word in words if word not in _FREE or word in kept or rng.random() > 0.3]
            if rng.random() < 0.25:
                words.insert(0, rng.choice(("please", "now", "now please")))
            elif rng.random() < 0.2:
                words.append(rng.choice(("please", "now")))
            message["content"] = " ".join(words)
    return Instance(entry, instance.ground_truth, instance.naive)


@cache
def _names() -> frozenset[str]:
    return frozenset(POOLS["name"].items)


def _code(rng: random.Random) -> str:
    """A city, company or symbol. It only ever replaces a person."""
    item = rng.choice(POOLS[rng.choice(_TABLES)].items)
    return str(rng.choice([part for part in item if part and not str(part).isdigit()]))


@cache
def _tool_names() -> tuple[str, ...]:
    """All tool names except those that only held-out kinds need."""
    known = {document["name"] for domain in bfcl.tool_documents().values() for document in domain}
    trained = {tool for kind in KINDS.values() if kind.train for tool in kind.tools}
    held_out = {tool for kind in KINDS.values() if not kind.train for tool in kind.tools}
    return tuple(sorted(known - (held_out - trained)))


def rename(dialogue: Dialogue, old: str, forbidden: set[str], rng: random.Random) -> None:
    """Give a tool another name, none of `forbidden`."""
    taken = {tool["function"]["name"] for tool in dialogue.tools} | forbidden
    new = rng.choice([name for name in _tool_names() if name not in taken])
    tools = copy.deepcopy(dialogue.tools)
    for tool in tools:
        if tool["function"]["name"] == old:
            tool["function"]["name"] = new
    dialogue.tools = tools
    for message in dialogue.messages:
        content = str(message["content"])
        if message["role"] == "assistant" and (calls := parse_reply(content).calls):
            renamed = [ToolCall(new if call.name == old else call.name, call.arguments) for call in calls]
            message["content"] = render_calls(renamed)
        elif message["role"] == "tool" and '"hint": "' in content:
            before, hint = content.split('"hint": "', 1)
            message["content"] = f'{before}"hint": "' + re.sub(rf"\b{old}\b", new, hint)
