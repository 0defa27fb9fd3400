"""From dialogues to batches: token ids and which of them the policy learns to write.

In: a tokenizer and a seed. Out: lists of `Example`s, about 4,096 tokens each, of similar length. The targets are the
assistant's tokens, from the first behind `<|im_start|>assistant\\n` to `<|im_end|>`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envtune.training.cold_start.dialogues import SINGLES, Dialogue, Source, solved
from envtune.training.cold_start.pairs import Pairs
from envtune.types import Category

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MIXTURE = {"singles": 0.45, "requests": 0.15, "pairs": 0.40}
"""Share of dialogues: single requests; any requests, up to the first chain; failures and hints."""
BATCH_TOKENS = 4096
"""Tokens of a batch, padding included."""
CHUNK = 1024
"""Examples that are sorted by length at a time."""


@dataclass(frozen=True)
class Example:
    """A tokenised dialogue; `learned[i]` says whether `ids[i]` is a target."""

    ids: list[int]
    learned: list[bool]


def dialogues(n: int, seed: int) -> list[Dialogue]:
    """`n` dialogues of the mixture."""
    rng = random.Random(f"mixture {seed}")
    singles, requests = (Source(kinds, tuple(Category), seed) for kinds in (SINGLES, None))
    pairs = Pairs(seed)
    makers = {
        "singles": lambda: solved(singles.next()),
        "requests": lambda: solved(requests.next()),
        "pairs": pairs.next,
    }
    return [makers[sort]() for sort in rng.choices(list(MIXTURE), list(MIXTURE.values()), k=n)]


def encode(tokenizer: PreTrainedTokenizerBase, found: Sequence[Dialogue]) -> list[Example]:
    """The dialogues as examples."""
    start, role, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "assistant\n", "<|im_end|>"])
    examples = []
    for dialogue in found:
        text = tokenizer.apply_chat_template(dialogue.messages, tools=list(dialogue.tools), tokenize=False)
        ids = tokenizer.encode(str(text), add_special_tokens=False)
        learned, writing = [], False
        for i, token in enumerate(ids):
            learned.append(writing)
            if token == end:
                writing = False
            elif token == role and ids[i - 1] == start:
                writing = True
        examples.append(Example(ids, learned))
    return examples


def batches(examples: Sequence[Example], seed: int) -> Iterator[list[Example]]:
    """Batches without end; every pass is shuffled anew."""
    rng = random.Random(f"batches {seed}")
    while True:
        order = rng.sample(examples, len(examples))
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
