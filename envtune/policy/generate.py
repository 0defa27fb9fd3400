"""Sample many conversations in parallel, keeping the key/value cache from message to message.

In: a causal language model of transformers and token ids. Out: one assistant message per row at a time. A row is in one
of three states. The slots of the cache are kept in this order, so that each group is a contiguous window:

    writing  every token but the last is cached: one forward pass gives its next token
    reading  several tokens are not cached yet (a prompt, tool results): they wait to be read together
    idle     its message has ended: the caller decides what follows

Once enough rows wait to read, `step` reads their tokens in one padded forward pass. Then it decodes one token for all
rows that write, and returns the rows whose message has ended, which leave the batch at once. Rows with the same prompt
(the rollouts of a group) share its computation. Each row draws its own random numbers, so its tokens do not depend on
the other rows in the batch, except through the last bits of floating-point sums.

Departs from `model.generate`, and from TRL's tool loop, which reads the whole conversation again at every step.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import torch

from envtune.policy.cache import SlotCache

if TYPE_CHECKING:
    from transformers import PreTrainedModel

READ_TOKENS = 16_384
"""Most tokens, padding included, in one forward pass that reads. It bounds memory."""
READ_SHARE = 4
"""Waiting rows are read once they are 1/READ_SHARE of the writing rows, because a forward pass has a fixed cost."""


class State(IntEnum):
    """What a row does. The order is also that of the slots."""

    WRITING = 0
    READING = 1
    IDLE = 2


@dataclass(eq=False)
class Row:
    """One conversation in the sampler."""

    ids: list[int]
    """All its tokens: prompt, sampled, environment."""
    end: int
    """The current message must end when `ids` reaches this length."""
    rng: random.Random
    slot: int
    state: State = State.READING
    cached: int = 0
    """Number of tokens of `ids` whose keys and values are stored, at most all but the last."""
    start: int = 0
    """Where the current message begins in `ids`."""
    logprobs: list[float] = field(default_factory=list)
    """Log-probabilities of the current message's tokens."""
    cut: bool = False
    """Whether the message reached `end` without a stop token."""

    @property
    def message(self) -> list[int]:
        """Ids of the current or last message."""
        return self.ids[self.start :]

    @property
    def unread(self) -> int:
        """Number of tokens to read before the next one can be sampled."""
        return len(self.ids) - 1 - self.cached


class Sampler:
    """Decodes rows that come and go, see the module's docstring. Call `open`, then `step` until the row is returned,
    then `feed` or `close`.

    Args:
        model: every layer must attend to the whole sequence, with attention `sdpa` or `eager`.
        stop_ids: ids that end a message.
        temperature: 0 is greedy. Log-probabilities are then those of temperature 1.

    Raises:
        ValueError: the model cannot be used, or a setting is out of its range.
    """

    def __init__(self, model: PreTrainedModel, stop_ids: Iterable[int], *, temperature: float = 1.0) -> None:
        if temperature < 0:
            raise ValueError(f"temperature is {temperature}. It must be at least 0")
        self._model: Any = model
        self._stop = frozenset(stop_ids)
        self._temperature = temperature
        self._rows: list[Row] = []
        self._cache = _cache_for(model)
        self.max_length = int(model.config.get_text_config().max_position_embeddings)
        self.tokens_read = 0
        """Tokens computed, padding and shared prompts not counted."""

    def __len__(self) -> int:
        return len(self._rows)

    def open(self, ids: Sequence[int], room: int, seed: str | int = 0) -> Row:
        """Start a conversation: a row that reads `ids` and then writes at most `room` tokens.

        Raises:
            ValueError: no room, or the conversation would not fit into the model.
        """
        row = Row([], 0, random.Random(seed), slot=len(self._rows), state=State.IDLE)
        self._check_room(len(ids), room)
        self._rows.append(row)
        self.feed(row, ids, room)
        return row

    def feed(self, row: Row, ids: Sequence[int], room: int) -> None:
        """Let an idle row read `ids` and then write at most `room` tokens."""
        length = len(row.ids) + len(ids)
        self._check_room(length, room)
        row.ids += ids
        row.start, row.end = length, length + room
        row.logprobs, row.cut = [], False
        self._move(row, State.READING)

    def close(self, row: Row) -> None:
        """Take a row out."""
        self._move(row, State.IDLE)
        self._swap(row, self._rows[-1])
        self._rows.pop()

    def step(self) -> list[Row]:
        """Advance by one token. Returns the rows whose message has ended (perhaps none)."""
        with torch.no_grad():
            writing, reading = self._count(State.WRITING), self._count(State.READING)
            if reading and reading * READ_SHARE >= writing:
                self._read()
            return self._write()

    def run(self) -> list[Row]:
        """`step` until a message has ended. Empty only if no row has anything to write."""
        while self._count(State.WRITING) or self._count(State.READING):
            if ended := self.step():
                return ended
        return []

    def _check_room(self, length: int, room: int) -> None:
        if length < 1 or room < 1 or length + room > self.max_length:
            raise ValueError(f"{length} tokens and room for {room} more: the model reads 1 to {self.max_length} in all")

    def _count(self, state: State) -> int:
        return sum(row.state is state for row in self._rows)

    def _write(self) -> list[Row]:
        rows = [row for row in self._rows if row.state is State.WRITING]
        if not rows:
            return []
        logits = self._forward(rows, 1)[:, -1]
        tokens, logprobs = self._choose(logits, [row.rng.random() for row in rows])
        for row, token, logprob in zip(rows, tokens, logprobs, strict=True):
            row.cached += 1
            row.ids.append(token)
            row.logprobs.append(logprob)
            row.cut = len(row.ids) >= row.end and token not in self._stop
        ended = [row for row in rows if row.cut or row.ids[-1] in self._stop]
        for row in reversed(ended):  # last slot first here, in order of slots below: fewer rows are swapped
            self._move(row, State.IDLE)
        return sorted(ended, key=lambda row: row.slot)

    def _choose(self, logits: torch.Tensor, uniforms: list[float]) -> tuple[list[int], list[float]]:
        """Token and log-probability per row, from the inverse cumulative distribution at a uniform number."""
        logprobs = torch.log_softmax(logits.float() / (self._temperature or 1.0), dim=-1)
        if self._temperature == 0:
            chosen = logprobs.argmax(-1)
        else:
            cumulative = logprobs.double().exp().cumsum(-1)
            point = torch.tensor(uniforms, dtype=torch.float64, device=cumulative.device) * cumulative[:, -1]
            chosen = torch.searchsorted(cumulative, point[:, None], right=True)[:, 0].clamp(max=logprobs.shape[-1] - 1)
        picked = logprobs.gather(-1, chosen[:, None])[:, 0]
        if not bool(torch.isfinite(picked).all()):
            raise FloatingPointError("the policy's probabilities are not finite: its weights have diverged")
        return chosen.tolist(), picked.tolist()

    def _read(self) -> None:
        """Read the unread tokens of the reading rows, in as few forward passes as memory and padding allow."""
        rows = [row for row in self._rows if row.state is State.READING]
        followers = _same_prompts(rows)
        order = [row for row in rows if row not in followers]
        if followers or not _even(order):
            order.sort(key=lambda row: -row.unread)
            for slot, row in enumerate(order, rows[0].slot):
                self._swap(row, self._rows[slot])
        for batch in _batches(order):
            if new := max(row.unread for row in batch):
                self._forward(batch, new)
            for row in batch:
                self.tokens_read += row.unread
                row.cached += row.unread
        for row, leader in followers.items():
            self._cache.reserve(len(self._rows), leader.cached)
            self._cache.copy(leader.slot, [row.slot], leader.cached)
            row.cached = leader.cached
        for row in rows:
            row.state = State.WRITING

    def _forward(self, rows: list[Row], new: int) -> torch.Tensor:
        """Logits (n, 1, V) after the last of `new` tokens per row. Rows stand in neighbouring slots. A row with fewer
        unread tokens is padded. The padding is stored beyond the row's length and overwritten later.
        """
        starts = [row.cached for row in rows]
        self._cache.reserve(len(self._rows), max(starts) + new)
        positions, mask = self._cache.select(rows[0].slot, starts, new)
        ids = [row.ids[row.cached : row.cached + new] for row in rows]
        padded = torch.tensor([i + [0] * (new - len(i)) for i in ids], device=positions.device)
        smallest = torch.finfo(self._model.dtype).min  # added to the scores, because a boolean mask is slower
        output = self._model(
            input_ids=padded,
            attention_mask=torch.where(mask, 0.0, smallest).to(self._model.dtype),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits

    def _move(self, row: Row, state: State) -> None:
        """Change a row's state by swapping it, state by state, with the row at the border."""
        while row.state < state:
            last = max((r for r in self._rows if r.state is row.state), key=lambda r: r.slot)
            self._swap(row, last)
            row.state = State(row.state + 1)
        while row.state > state:
            first = min((r for r in self._rows if r.state is row.state), key=lambda r: r.slot)
            self._swap(row, first)
            row.state = State(row.state - 1)

    def _swap(self, a: Row, b: Row) -> None:
        if a is b:
            return
        if length := max(a.cached, b.cached):
            self._cache.reserve(len(self._rows), length)
            self._cache.swap(a.slot, b.slot, length)
        a.slot, b.slot = b.slot, a.slot
        self._rows[a.slot], self._rows[b.slot] = a, b


def _same_prompts(rows: Sequence[Row]) -> dict[Row, Row]:
    """Rows that have read nothing yet, each with an earlier row with the same tokens that reads for it."""
    first: dict[tuple[int, ...], Row] = {}
    pairs = {row: first.setdefault(tuple(row.ids), row) for row in rows if row.cached == 0}
    return {row: leader for row, leader in pairs.items() if row is not leader}


def _even(rows: Sequence[Row]) -> bool:
    """Whether padding all rows to the longest one wastes little."""
    lengths = [row.unread for row in rows]
    return max(lengths) <= 2 * min(lengths) + 16


def _batches(rows: Sequence[Row]) -> list[list[Row]]:
    """Neighbouring rows, split where padding would waste much or the batch would take too much memory."""
    batches: list[list[Row]] = []
    for row in rows:
        wider = [*batches[-1], row] if batches else [row]
        if batches and _even(wider) and len(wider) * max(r.unread for r in wider) <= READ_TOKENS:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _cache_for(model: PreTrainedModel) -> SlotCache:
    config = model.config.get_text_config()
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or []):
        raise ValueError(f"{config.model_type}: some layers do not attend to the whole sequence. Use another model")
    if (attention := config._attn_implementation) not in ("sdpa", "eager"):
        raise ValueError(f"attention {attention!r} cannot be sampled. Load the model with attn_implementation='sdpa'")
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return SlotCache(config.num_hidden_layers, config.num_key_value_heads, head_dim, model.dtype, model.device)
