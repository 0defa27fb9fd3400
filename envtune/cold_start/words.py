"""The words of the tiny policy's tokenizer: what the environment can say about procedural tasks, and the tools' names.

Out: a sorted list, the same in every process. Values (names, cities, digits, ...) are words without a space before
them, so a value is the same token wherever it stands. Other words come with and without a space.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from envtune.cold_start.dialogues import ANSWERS, parse
from envtune.data import bfcl, synth
from envtune.data.synth_kinds import KINDS
from envtune.data.synth_values import POOLS
from envtune.environment import replay
from envtune.environment.env import HANDOVER, TURN_FEEDBACK
from envtune.environment.hint_rules import RULES
from envtune.environment.hints import Strength
from envtune.types import JSON

TASKS = 400
"""Tasks of each split that are played to collect what the simulators say."""
OFTEN = 3
"""A word of the simulators becomes a token if it was read at least this often."""
_WORD = re.compile(r"[A-Za-z]+(?:_[A-Za-z]+)*")


def words() -> list[str]:
    """Every word that becomes a token."""
    documents = [document for domain in bfcl.tool_documents().values() for document in domain]
    offered = {tool for kind in KINDS.values() for tool in kind.tools}
    fixed = {name for document in documents for name in (document["name"], *_properties(document))}
    said = {*synth.vocabulary(), *_read_often(), *_words_of([HANDOVER, TURN_FEEDBACK, *ANSWERS])}
    said |= set(_words_of(text for rule in RULES if offered & set(rule.tools.split()) for text in (rule.why, rule.do)))
    values = {str(word) for name in ("zip_city", "air_city", "company") for item in POOLS[name].items for word in item}
    values = {word for word in values if not word.isdigit() and word}
    parts = {word for word in synth.vocabulary() if word.isalpha()}
    phrases = {". Call one of ", ", then repeat ", " or "}
    spaced = {f" {word}" for word in said if word.islower() and len(word) > 1}
    return sorted(fixed | {w for w in said if len(w) > 1} | values | parts | phrases | spaced)


def _properties(document: JSON) -> Iterator[str]:
    for key, schema in document["parameters"]["properties"].items():
        yield key
        yield str(schema["type"])


def _words_of(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from _WORD.findall(text)


def _read_often() -> set[str]:
    """Words of results, with and without hints, of solved tasks and of chains whose goal is called at once."""
    counts: dict[str, int] = {}
    for split in synth.SPLITS:
        for instance in synth.generate(TASKS, split, seed=1):
            task = instance.task()
            naive = [[[parse(task, text)]] if text else [] for text in instance.naive]
            for turns in ([[[call] for call in turn] for turn in task.ground_truth], naive):
                episode = replay(task, turns, hints=True, hint_strength=Strength.LIST)
                texts = [result.text for step in episode.steps for result in step.results]
                for word in set(_words_of(texts)):
                    counts[word] = counts.get(word, 0) + 1
    return {word for word, count in counts.items() if count >= OFTEN and len(word) > 1}
