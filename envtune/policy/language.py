"""A language model as a `Policy`: it answers chats with text, and keeps each chat's key/value cache between messages.

In: chats. Out: one message each. A chat is recognised by identity, and its new messages are appended as tokens. If its
tools have changed, or its history is not what this policy wrote, the whole chat is rendered and read again.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envtune.chat import CUT_OFF, without_marks
from envtune.policy.base import Chat
from envtune.policy.generate import Row, Sampler, State
from envtune.policy.tokens import ChatTokens
from envtune.types import JSON, Message

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class _Reading:
    """The state of one chat: what this policy has read and written."""

    chat: weakref.ref[Chat]
    row: Row
    tools: tuple[JSON, ...]
    messages: list[Message]
    """Messages read, and the one written once the caller has it."""
    told: bool = False
    """Whether the caller has the message last written."""

    @property
    def ended(self) -> bool:
        """Whether nothing is left to write."""
        return self.row.state is State.IDLE


class LanguagePolicy:
    """A causal language model of transformers, answering from its cache.

    Args:
        model, tokenizer: the model and its tokenizer. The chat template must keep prefixes, see `ChatTokens`.
        name: for tables and file names.
        temperature: 0 is greedy.
        message_tokens: longest message. A longer one is cut off and counts as a format error.
        seed: of the sampling, together with the task and the number of its message. Unused if greedy.
        identity: what else decides the replies, such as a hash of the weights. It is part of `settings`.
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
        """The next message of each chat. Where the model has no room left, the message is empty and cut off."""
        replies: dict[int, str] = {}
        while waiting := [number for number in range(len(chats)) if number not in replies]:
            some = self.reply_some([chats[number] for number in waiting])
            replies |= {number: text for number, text in zip(waiting, some, strict=True) if text is not None}
        return [replies[number] for number in range(len(chats))]

    def reply_some(self, chats: Sequence[Chat]) -> list[str | None]:
        """As `reply`, but returns once a message has ended. None for chats whose message is still being written. The
        caller asks for those again, together with chats that go on, so short messages do not wait for long ones.
        """
        self._forget_the_dead()
        readings = [self._read(chat) for chat in chats]
        while readings and not any(reading is None or reading.ended for reading in readings):
            self._sampler.run()
        return [
            CUT_OFF if reading is None else self._tell(reading, chat) if reading.ended else None
            for reading, chat in zip(readings, chats, strict=True)
        ]

    def _read(self, chat: Chat) -> _Reading | None:
        """Let the chat's row read what is new, if it does not write already. None if it does not fit."""
        if reading := self._known(chat):
            if not reading.told:
                return reading
            new = self._tokens.continuation(chat.messages[len(reading.messages) :], reading.row.ids[-1])
            if room := self._room(len(reading.row.ids) + len(new)):
                self._sampler.feed(reading.row, new, room)
                reading.messages, reading.told = list(chat.messages), False
                return reading
        self._drop(id(chat))
        ids = self._tokens.prompt(without_marks(chat.messages), chat.tools)
        if not (room := self._room(len(ids))):
            return None
        row = self._sampler.open(ids, room, f"{self._seed}/{chat.task.id}/{len(chat.messages)}")
        self._readings[id(chat)] = reading = _Reading(weakref.ref(chat), row, chat.tools, list(chat.messages))
        return reading

    def _known(self, chat: Chat) -> _Reading | None:
        """The chat's reading, if the chat only grew since the last message or did not change since the last request."""
        reading = self._readings.get(id(chat))
        if reading is None or reading.chat() is not chat or reading.tools != chat.tools:
            return None
        before, after = chat.messages[: len(reading.messages)], chat.messages[len(reading.messages) :]
        return reading if before == reading.messages and bool(after) == reading.told else None

    def _tell(self, reading: _Reading, chat: Chat) -> str:
        text = self._tokens.text(reading.row.message, reading.row.cut)
        reading.messages, reading.told = [*chat.messages, {"role": "assistant", "content": text}], True
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
