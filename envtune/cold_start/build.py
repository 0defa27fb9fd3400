"""Build the tiny policy from scratch: words, tokenizer, dialogues, training, measurement, files.

In: a folder, a number of nominal minutes, a seed. Out: the checkpoint and its `card.json`. The work is counted in
tokens, not in seconds, so the same seed gives the same weights on a slower machine of the same kind.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from envtune.cold_start import examples
from envtune.cold_start.fit import fit
from envtune.cold_start.measure import MESSAGE_TOKENS, measure
from envtune.cold_start.words import words
from envtune.data.bfcl import data_version
from envtune.policy.portable import OLDEST, make_portable
from envtune.policy.tiny import WEIGHTS
from envtune.policy.tiny.model import make_model
from envtune.policy.tiny.tokenizer import make_tokenizer
from envtune.types import JSON

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOKENS_PER_MINUTE = 1_000_000
"""Tokens of a nominal minute of training. Two free cores do about that in a minute."""
EPOCHS = 2.0
"""Number of passes over the dialogues."""
DIALOGUE_TOKENS = 150
"""Mean length of a dialogue."""
CARD = "card.json"
PACKAGES = ("torch", "transformers", "tokenizers", "bfcl-eval")


def build(
    out: Path = WEIGHTS,
    minutes: float = 12.0,
    seed: int = 0,
    tasks: int = 200,
    echo: Callable[[str], object] = lambda line: None,
) -> JSON:
    """Build into `out` and return the card.

    Args:
        out: folder. Files of an earlier build are overwritten.
        minutes: nominal minutes of training. Data and measurement take further time.
        seed: of weights, dialogues and their order.
        tasks: tasks per measurement. 0: measure nothing.
        echo: gets lines about the progress.

    Raises:
        ValueError: `minutes` is not positive.
    """
    if minutes <= 0:
        raise ValueError(f"minutes is {minutes}. It must be positive")
    begin = time.perf_counter()
    tokens = int(minutes * TOKENS_PER_MINUTE)
    tokenizer = make_tokenizer(words())
    found = examples.dialogues(max(64, int(tokens / DIALOGUE_TOKENS / EPOCHS)), seed)
    data = examples.encode(tokenizer, found)
    echo(f"{len(data)} dialogues, {sum(len(e.ids) for e in data):,} tokens, {time.perf_counter() - begin:.0f} s")
    model = make_model(tokenizer, seed)
    losses = fit(model, examples.batches(data, seed), tokens, seed, echo)
    trained = time.perf_counter() - begin
    _save(model, tokenizer, out)
    card: JSON = {"parameters": model.num_parameters(), "vocabulary": len(tokenizer), "seed": seed}
    card["training"] = {
        "dialogues": len(data),
        "tokens": tokens,
        "steps": len(losses),
        "loss_first": round(losses[0], 4),
        "loss_last_50": round(sum(losses[-50:]) / len(losses[-50:]), 4),
        "threads": torch.get_num_threads(),
        "seconds": round(trained),
    }
    card["measured"] = [measure(model, tokenizer, tasks, split) for split in ("val", "test") if tasks]
    card["versions"] = {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
    card["requires"] = {"transformers": f">={OLDEST}"}
    card["data"] = data_version()
    card["seconds"] = round(time.perf_counter() - begin)
    (out / CARD).write_text(json.dumps(card, indent=2) + "\n")
    return card


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    assert model.generation_config is not None
    model.generation_config.max_new_tokens = MESSAGE_TOKENS
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    make_portable(out)
