"""From dialogues to batches: token ids and which of them the policy learns to write.

In: a tokenizer and a seed. Out: lists of `Example`s, about 4,096 tokens each, of similar length. The targets are the
assistant's tokens, from the first behind `<|im_start|>assistant\\n` to `<|im_end|>`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING

from envtune.data.synth_values import FOLDERS, NAME_PARTS, NOUNS, STEMS, VERBS
from envtune.training.cold_start.dialogues import SINGLES, Dialogue, Source, solved
from envtune.training.cold_start.disguise import disguise, reword
from envtune.training.cold_start.pairs import Pairs
from envtune.types import Category

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MIXTURE = {"singles": 0.40, "requests": 0.15, "pairs": 0.45}
"""Share of dialogues: single requests; any requests, up to the first chain; failures and hints."""
DISGUISED = 0.5
"""Share of solved instances whose values are exchanged for other words."""
REWORDED = 0.5
"""Share of solved instances whose sentences are made sloppier."""
BLOCK = 2000
"""Dialogues that one process makes at a time; each block has its own seed."""
BATCH_TOKENS = 4096
"""Tokens of a batch, padding included."""
DRILL_TOKENS, DRILL_BATCH = 64, 32
"""Length of a copying drill, and drills in a batch. Attention learns to copy (to find what it has just written
further up, and to write what follows there) only after some 300 steps; drills are a short way there. Without them the
digits of a number still came out in another order after 3.9 M tokens of dialogues."""
CHUNK = 1024
"""Examples that are sorted by length at a time."""


@dataclass(frozen=True)
class Example:
    """A tokenised dialogue; `learned[i]` says whether `ids[i]` is a target."""

    ids: list[int]
    learned: list[bool]


def dialogues(n: int, seed: int) -> list[Dialogue]:
    """`n` dialogues of the mixture, made by as many processes as there are cores; the same for any number of them."""
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
        "singles": lambda: _solved(singles, rng),
        "requests": lambda: _solved(requests, rng),
        "pairs": pairs.next,
    }
    return [makers[sort]() for sort in order.choices([*MIXTURE], [*MIXTURE.values()], k=n)]


def _solved(source: Source, rng: random.Random) -> Dialogue:
    """The next one that the simulators accept: some know only the cities and companies of their tables."""
    while True:
        instance = source.next()
        instance = disguise(instance, rng) if rng.random() < DISGUISED else instance
        dialogue = solved(reword(instance, rng) if rng.random() < REWORDED else instance)
        if dialogue is not None:
            return dialogue


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


def batches(examples: Sequence[Example], values: Sequence[int], seed: int, drills: int = 0) -> Iterator[list[Example]]:
    """Batches without end: first `drills` copying drills, then the shorter half of the examples, then all of them, in
    a new order each time."""
    rng = random.Random(f"batches {seed}")
    for _ in range(drills):
        yield [_drill(rng, values) for _ in range(DRILL_BATCH)]
    kept = sorted(examples, key=lambda example: len(example.ids))[: len(examples) // 2]
    while True:
        order, kept = rng.sample(kept, len(kept)), list(examples)
        made: list[list[Example]] = []
        for i in range(0, len(order), CHUNK):
            made += _cut(sorted(order[i : i + CHUNK], key=lambda example: len(example.ids)))
        rng.shuffle(made)
        yield from made


def _drill(rng: random.Random, values: Sequence[int]) -> Example:
    """Random tokens, again and again in the same order; the repetitions are learned."""
    source = rng.choices(values, k=rng.randint(5, DRILL_TOKENS // 2))
    repeated = (source * DRILL_TOKENS)[:DRILL_TOKENS]
    return Example(repeated, [i > len(source) for i in range(DRILL_TOKENS)])


def value_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of digits and of the words that values are made of."""
    words = [*"0123456789", *NAME_PARTS[0], *NAME_PARTS[1], *VERBS, *NOUNS, *STEMS, *FOLDERS]
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[word] for word in words]


def _cut(ordered: Sequence[Example]) -> Iterator[list[Example]]:
    batch: list[Example] = []
    for example in ordered:
        if batch and (len(batch) + 1) * len(example.ids) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(example)
    if batch:
        yield batch
