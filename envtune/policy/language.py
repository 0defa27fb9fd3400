"""A language model as a `Policy`: it answers chats with text, and keeps each chat's key/value cache between messages.

In: chats. Out: one message each. A chat is known by identity; what it holds beyond what was read last time is appended
as tokens. If its tools were recompiled, or its history is not what this policy wrote, it is rendered and read anew.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envtune.policy.base import Chat
from envtune.policy.chat import CUT_OFF, without_marks
from envtune.policy.generate import Row, Sampler
from envtune.policy.tokens import ChatTokens
from envtune.types import JSON, Message

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class _Reading:
    """What this policy has read of one chat."""

    chat: weakref.ref[Chat]
    row: Row
    tools: tuple[JSON, ...]
    messages: list[Message]
    """Those read and the last one written."""


class LanguagePolicy:
    """A causal language model of transformers, answering from its cache.

    Args:
        model, tokenizer: what acts; the chat template must keep prefixes, see `ChatTokens`.
        name: for tables and file names.
        temperature: 0 is greedy.
        message_tokens: longest message; a longer one is cut off and counts as a format error.
        seed: of the sampling, together with the task and the number of its message. Unused if greedy.
        identity: what else decides the replies, such as a hash of the weights; goes into `settings`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str = "model",
        temperature: float = 0.0,
        message_tokens: int = 1024,
        seed: int = 0,
        identity: JSON | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._tokens = ChatTokens(tokenizer, stop_ids_of(model))
        self._sampler = Sampler(model, self._tokens.stop_ids, temperature=temperature)
        self._name, self._seed = name, seed
        self._message_tokens = message_tokens
        self._readings: dict[int, _Reading] = {}
        sampling = {"temperature": temperature, "message_tokens": message_tokens}
        self._settings: JSON = {**sampling, **({"seed": seed} if temperature else {}), **(identity or {})}

    @property
    def name(self) -> str:
        """Short name."""
        return self._name

    @property
    def settings(self) -> JSON:
        """Sampling settings and the model's identity."""
        return self._settings

    def reply(self, chats: Sequence[Chat]) -> list[str]:
        """The next message of each chat; an empty one, cut off, where the model has no room left to read it."""
        self._forget_the_dead()
        readings = [self._read(chat) for chat in chats]
        while self._sampler.run():
            pass
        return [self._reply(reading) if reading else CUT_OFF for reading in readings]

    def _read(self, chat: Chat) -> _Reading | None:
        """Let the chat's row read what is new; None if it does not fit."""
        if reading := self._known(chat):
            new = self._tokens.continuation(chat.messages[len(reading.messages) :], reading.row.ids[-1])
            if room := self._room(len(reading.row.ids) + len(new)):
                self._sampler.feed(reading.row, new, room)
                return reading
        self._drop(id(chat))
        ids = self._tokens.prompt(without_marks(chat.messages), chat.tools)
        if not (room := self._room(len(ids))):
            return None
        row = self._sampler.open(ids, room, f"{self._seed}/{chat.task.id}/{len(chat.messages)}")
        self._readings[id(chat)] = reading = _Reading(weakref.ref(chat), row, chat.tools, [])
        return reading

    def _known(self, chat: Chat) -> _Reading | None:
        """The chat's reading, if the chat only grew since."""
        reading = self._readings.get(id(chat))
        if reading is None or reading.chat() is not chat or reading.tools != chat.tools:
            return None
        before, after = chat.messages[: len(reading.messages)], chat.messages[len(reading.messages) :]
        return reading if after and before == reading.messages else None

    def _reply(self, reading: _Reading) -> str:
        text = self._tokens.text(reading.row.message, reading.row.cut)
        chat = reading.chat()
        assert chat is not None, "the caller holds the chat"
        reading.messages = [*chat.messages, {"role": "assistant", "content": text}]
        return text

    def _room(self, length: int) -> int:
        return max(0, min(self._message_tokens, self._sampler.max_length - length))

    def _forget_the_dead(self) -> None:
        for key in [key for key, reading in self._readings.items() if reading.chat() is None]:
            self._drop(key)

    def _drop(self, key: int) -> None:
        if reading := self._readings.pop(key, None):
            self._sampler.close(reading.row)


def stop_ids_of(model: PreTrainedModel) -> list[int]:
    """The ids at which the model's own generation config ends a message."""
    ids = model.generation_config.eos_token_id if model.generation_config else None
    return list(ids) if isinstance(ids, list) else [] if ids is None else [int(ids)]
