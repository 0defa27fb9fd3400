"""A rollout backend over an engine that generates whole messages from whole prompts: vLLM through TRL.

In: a function from prompts to messages, such as `trainer._generate_single_turn`. All waiting conversations are sent
together. The engine keeps its own prefix cache. Messages longer than their room are cut here, because the engine has
one limit for all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

from envtune.policy.generate import Row, State

Generate = Callable[[list[list[int]]], tuple[list[list[int]], list[list[float]] | None]]


class TurnEngine:
    """See `rollout.Backend`.

    Args:
        generate: prompts' ids -> messages' ids and, if known, their log-probabilities.
        stop_ids: ids that end a message.
        max_length: longest conversation.
    """

    def __init__(self, generate: Generate, stop_ids: Iterable[int], max_length: int) -> None:
        self._generate = generate
        self._stop = frozenset(stop_ids)
        self.max_length = max_length
        self._waiting: list[Row] = []

    def open(self, ids: Sequence[int], room: int, seed: str | int = 0) -> Row:
        """Start a conversation. The engine has its own random numbers, so `seed` is not used."""
        row = Row([], 0, random.Random(seed), slot=0)
        self.feed(row, ids, room)
        return row

    def feed(self, row: Row, ids: Sequence[int], room: int) -> None:
        """Queue the next message of a conversation."""
        row.ids += ids
        row.start, row.end = len(row.ids), len(row.ids) + room
        row.state = State.READING
        self._waiting.append(row)

    def close(self, row: Row) -> None:
        """Nothing to do: nothing is kept."""

    def run(self) -> list[Row]:
        """One message for every waiting conversation."""
        rows, self._waiting = self._waiting, []
        messages, logprobs = self._generate([list(row.ids) for row in rows])
        for i, row in enumerate(rows):
            message = messages[i][: row.end - row.start]
            row.ids += message
            row.logprobs = list(logprobs[i][: len(message)]) if logprobs else [0.0] * len(message)
            row.cut = message[-1] not in self._stop
            row.state = State.IDLE
        return rows
