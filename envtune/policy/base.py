"""The interface of every agent: it is shown chats and answers each with text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from envtune.types import JSON, Message, Task

SHORT_PROMPT = "short_prompt"
"""Note: the server counted far fewer prompt tokens than the chat has, so it cut the prompt without saying so."""
WITHOUT = "without "
"""Note, with the name of a field: the server takes its requests only without it."""


@dataclass
class Chat:
    """One running episode as its agent sees it. A language model reads `messages` and `tools` only."""

    task: Task
    """For scripted agents and for bookkeeping."""
    messages: list[Message]
    tools: tuple[JSON, ...]
    """Schemas to render at the head of the chat. Schemas handed over in a message are not repeated here."""
    turn: int = 0
    """Index of the current user turn."""
    step: int = 0
    """Assistant messages so far in this turn."""
    notes: Counter[str] = field(default_factory=Counter)
    """What the policy found out about its messages, with counts. A row of an evaluation keeps them."""


class Policy(Protocol):
    """An agent. Episodes are played in parallel, so `reply` answers many chats at once."""

    @property
    def name(self) -> str:
        """Short name, for tables and file names."""
        ...

    @property
    def settings(self) -> JSON:
        """All that decides the replies in addition to the name, such as seed, rates, checkpoint hash. Name and settings
        identify an evaluation.
        """
        ...

    def reply(self, chats: Sequence[Chat]) -> list[str]:
        """The next assistant message of each chat, in order."""
        ...


@runtime_checkable
class Streaming(Policy, Protocol):
    """A policy whose short messages need not wait for long ones."""

    def reply_some(self, chats: Sequence[Chat]) -> list[str | None]:
        """As `reply`, but returns once the message of at least one chat has ended. None for the others, which the
        caller asks for again.
        """
        ...
