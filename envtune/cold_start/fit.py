"""Training of the cold start: next-token loss on the assistant's tokens, Muon for matrices, AdamW for the rest.

In: a model and batches. Out: the model, trained in place, and its losses. Muon (Jordan et al. 2024, torch's own)
makes the momentum of each hidden matrix orthogonal before the step. Learning rates are constant for the first half,
then fall linearly to zero. Rates, batch and heads were chosen on dialogues of the train split that were not trained on
(1.2 M tokens, one seed each, table in the changelog).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from envtune.cold_start.examples import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MUON_LR, ADAM_LR = 0.005, 3e-3
READ_WEIGHT, READ_SHARE = 0.1, 0.25
"""Weight of the loss on text that the policy only reads (results repeat values of calls, which teaches copying), and
the random share of those tokens that it uses. The share saves time: the softmax over the vocabulary is expensive."""
WARMUP = 20
"""Steps over which the learning rates rise."""
DECAY_FROM = 0.5
"""Share of the tokens after which they fall."""


def fit(
    model: PreTrainedModel,
    stream: Iterator[list[Example]],
    tokens: int,
    seed: int = 0,
    echo: Callable[[str], object] = lambda line: None,
) -> list[float]:
    """Train on `tokens` tokens, padding not counted, and return the loss of every step."""
    optimizers = _optimizers(model)
    torch.manual_seed(seed)
    model.train()
    losses: list[float] = []
    seen, begin = 0, time.perf_counter()
    while seen < tokens:
        batch = next(stream)
        rate = min(1.0, (len(losses) + 1) / WARMUP, (1 - seen / tokens) / (1 - DECAY_FROM))
        for optimizer, base in optimizers:
            optimizer.param_groups[0]["lr"] = base * rate
            optimizer.zero_grad()
        loss = _loss(model, batch)
        loss.backward()
        for optimizer, _ in optimizers:
            optimizer.step()
        losses.append(loss.item())
        seen += sum(len(example.ids) for example in batch)
        if len(losses) % 50 == 0:
            speed = seen / (time.perf_counter() - begin)
            echo(f"step {len(losses)}: {seen / tokens:.0%}, loss {sum(losses[-50:]) / 50:.3f}, {speed:,.0f} tokens/s")
    model.eval()
    return losses


def _optimizers(model: PreTrainedModel) -> list[tuple[Any, float]]:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    muon = torch.optim.Muon(matrices, lr=MUON_LR, weight_decay=0.0)
    return [(muon, MUON_LR), (torch.optim.AdamW(rest, lr=ADAM_LR, betas=(0.9, 0.95), weight_decay=0.0), ADAM_LR)]


def _loss(model: Any, batch: list[Example]) -> torch.Tensor:
    """Mean cross-entropy of the learned tokens."""
    width = max(len(example.ids) for example in batch)
    ids = torch.tensor([example.ids + [0] * (width - len(example.ids)) for example in batch])
    learned = torch.tensor([example.learned + [False] * (width - len(example.ids)) for example in batch])
    real = torch.tensor([[True] * len(e.ids) + [False] * (width - len(e.ids)) for e in batch])
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=ids).last_hidden_state  # padding is on the right, so no token attends to it
        scored = learned[:, 1:] | (real[:, 1:] & (torch.rand(ids[:, 1:].shape) < READ_SHARE))
        logits = model.lm_head(hidden[:, :-1][scored])
    each = cross_entropy(logits.float(), ids[:, 1:][scored], reduction="none")
    own = learned[:, 1:][scored]
    return each[own].mean() + READ_WEIGHT * each[~own].mean()
