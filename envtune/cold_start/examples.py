"""From dialogues to batches: token ids, and which of them the policy learns to write.

In: a tokenizer and a seed. Out: lists of `Example`s, about 2,048 tokens each, of similar length. The targets are the
assistant's tokens, from the first after `<|im_start|>assistant\\n` to `<|im_end|>`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from typing import TYPE_CHECKING

from envtune.cold_start.dialogues import ANSWERS, SINGLES, Dialogue, Source, solved
from envtune.cold_start.disguise import disguise, reword
from envtune.cold_start.forms import form
from envtune.cold_start.pairs import Pairs
from envtune.data.bfcl import tool_documents
from envtune.types import Category

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MIXTURE = {"forms": 0.32, "singles": 0.22, "requests": 0.08, "pairs": 0.38}
"""Shares of dialogues, in this order: calls with values to copy, single requests, any requests up to the first chain,
failures and hints."""
DISGUISED = 0.5
"""Share of solved instances whose values are replaced by other words."""
JOINED = 0.6
"""Share of pairs that stand before or after single requests to other simulators, in one conversation."""
REWORDED = 0.5
"""Share of solved instances whose sentences are made sloppier."""
BLOCK = 2000
"""Dialogues that one process makes at a time. Each block has its own seed."""
BATCH_TOKENS = 2048
"""Tokens of a batch, padding included."""
CHUNK = 1024
"""Examples that are sorted by length at a time."""


@dataclass(frozen=True)
class Example:
    """A tokenised dialogue. `learned[i]` says whether `ids[i]` is a target."""

    ids: list[int]
    learned: list[bool]


def dialogues(n: int, seed: int) -> list[Dialogue]:
    """`n` dialogues of the mixture, made by one process per core. They do not depend on the number of cores."""
    sizes = [min(BLOCK, n - begin) for begin in range(0, n, BLOCK)]
    seeds = [f"{seed} {block}" for block in range(len(sizes))]
    if len(sizes) == 1:
        return _block(n, seeds[0])
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return [dialogue for block in pool.map(_block, sizes, seeds) for dialogue in block]


def _block(n: int, seed: str) -> list[Dialogue]:
    rng, order = random.Random(f"disguises {seed}"), random.Random(f"mixture {seed}")
    singles, requests = Source(SINGLES, tuple(Category), seed), Source(None, tuple(Category), seed)
    pairs = Pairs(seed)
    makers: dict[str, Callable[[], Dialogue]] = {
        "forms": lambda: form(rng),
        "singles": lambda: _solved(singles, rng),
        "requests": lambda: _solved(requests, rng),
        "pairs": lambda: joined(pairs.next(), _solved(singles, rng), rng) if rng.random() < JOINED else pairs.next(),
    }
    return [makers[sort]() for sort in order.choices([*MIXTURE], [*MIXTURE.values()], k=n)]


def _solved(source: Source, rng: random.Random) -> Dialogue:
    """The next dialogue that the simulators accept: some know only the cities and companies of their tables."""
    while True:
        instance = source.next()
        instance = disguise(instance, rng) if rng.random() < DISGUISED else instance
        dialogue = solved(reword(instance, rng) if rng.random() < REWORDED else instance)
        if dialogue is not None:
            return dialogue


def joined(pair: Dialogue, other: Dialogue, rng: random.Random) -> Dialogue:
    """Both in one conversation if they share no simulator, else the first alone."""
    if _simulators(pair) & _simulators(other):
        return pair
    whole = [each for each in (pair, other) if each.messages[-1].get("content") in ANSWERS]
    first = rng.choice(whole)
    second = other if first is pair else pair
    tools = sorted([*pair.tools, *other.tools], key=lambda tool: str(tool["function"]["name"]))
    return Dialogue(tuple(tools), first.messages + second.messages)


def _simulators(dialogue: Dialogue) -> set[str]:
    """Simulators whose tools are offered. A renamed tool is found by the other tools of its simulator."""
    offered = {tool["function"]["name"] for tool in dialogue.tools}
    return {cls for cls, names in _tools().items() if offered & names}


@cache
def _tools() -> dict[str, frozenset[str]]:
    return {cls: frozenset(doc["name"] for doc in documents) for cls, documents in tool_documents().items()}


def encode(tokenizer: PreTrainedTokenizerBase, found: Sequence[Dialogue]) -> list[Example]:
    """The dialogues as examples."""
    start, role, end = map(tokenizer.convert_tokens_to_ids, ("<|im_start|>", "assistant\n", "<|im_end|>"))
    examples = []
    for dialogue in found:
        text = tokenizer.apply_chat_template(dialogue.messages, tools=list(dialogue.tools), tokenize=False)
        ids = tokenizer.encode(str(text), add_special_tokens=False)
        learned: list[bool] = []
        writing = False
        for i, token in enumerate(ids):
            learned.append(writing)
            if token == end:
                writing = False
            elif token == role and ids[i - 1] == start:
                writing = True
        examples.append(Example(ids, learned))
    return examples


def batches(examples: Sequence[Example], seed: int) -> Iterator[list[Example]]:
    """Endless batches: first the shorter half of the examples, then all of them, in a new order each time."""
    rng = random.Random(f"batches {seed}")
    kept = sorted(examples, key=lambda example: len(example.ids))[: len(examples) // 2]
    while True:
        order, kept = rng.sample(kept, len(kept)), list(examples)
        made: list[list[Example]] = []
        for i in range(0, len(order), CHUNK):
            made += _cut(sorted(order[i : i + CHUNK], key=lambda example: len(example.ids)))
        rng.shuffle(made)
        yield from made


def _cut(ordered: Sequence[Example]) -> Iterator[list[Example]]:
    batch: list[Example] = []
    for example in ordered:
        if batch and (len(batch) + 1) * len(example.ids) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(example)
    if batch:
        yield batch
