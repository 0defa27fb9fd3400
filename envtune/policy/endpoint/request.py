"""From a chat to the body of a request, in the form that one server takes.

In: a chat. Out: path and body, for the completions API if a chat template is rendered here, else for the chat API.
Servers differ in the fields that they take. A `Dialect` holds what was found out about one of them, from its own words.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from envtune.chat import parse_reply, without_marks
from envtune.policy.base import Chat
from envtune.policy.endpoint.errors import RefusedError
from envtune.policy.tokens import check_tools
from envtune.types import JSON, Message, ToolCall

SAMPLING: Mapping[str, Any] = {
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "skip_special_tokens": False,
}
"""Sent with every request. Otherwise vLLM takes them from the model's `generation_config.json`, and drops special
tokens from the text, so that a served model differs from the same model here."""
OWN_FIELDS = {
    "model": "--model",
    "temperature": "--temperature",
    "max_tokens": "--message-tokens",
    "max_completion_tokens": "--message-tokens",
    **dict.fromkeys(("messages", "prompt", "tools", "stream", "n")),
}
"""Fields that `body` may not hold, with the option for them."""
NOTHING_SAID = "..."
"""Stands for an empty message where a server wants text."""
_REASONING = re.compile(r"<think>.*?</think>", re.S)
_UNKNOWN = re.compile(r"instead|unsupported|unknown|unrecogni|unexpected|not (supported|permitted|allowed)|extra", re.I)


@dataclass(frozen=True)
class Dialect:
    """What one server takes."""

    tokens: str = "max_tokens"
    """The field with the longest message."""
    unsent: frozenset[str] = frozenset()
    """Fields that are left out because the server refuses them."""
    filled: int = 0
    """How an empty message is sent. 1: null if it holds calls, else `NOTHING_SAID`. 2: `NOTHING_SAID`."""
    unnamed: bool = False
    """Whether results are sent without the tool's name. Their call id says which tool it was."""

    def learned(self, other: Dialect) -> Dialect:
        """What this one and another have found out, together."""
        tokens = other.tokens if other.tokens != Dialect.tokens else self.tokens
        filled, unnamed = max(self.filled, other.filled), self.unnamed or other.unnamed
        return Dialect(tokens, self.unsent | other.unsent, filled, unnamed)

    def written(self, messages: Sequence[Message]) -> list[Message]:
        """The messages in the form that the server takes."""
        return [self._unnamed(self._filled(message)) for message in messages]

    def _filled(self, message: Message) -> Message:
        if not self.filled or not _empty(message):
            return message
        return {**message, "content": None if self.filled == 1 and "tool_calls" in message else NOTHING_SAID}

    def _unnamed(self, message: Message) -> Message:
        named = self.unnamed and message["role"] == "tool"
        return {key: value for key, value in message.items() if key != "name"} if named else message


@dataclass(frozen=True)
class Requests:
    """Makes the requests of one endpoint.

    Raises:
        ValueError: `body` holds a field that an option sets, or what no request can hold.
    """

    model: str
    temperature: float | None
    message_tokens: int
    seed: int
    body: JSON
    template: Template | None = None
    fields: JSON = field(init=False)
    """Model, temperature, sampling and `body`, as every request holds them."""

    def __post_init__(self) -> None:
        if taken := sorted(self.body.keys() & OWN_FIELDS):
            way = f"Use {OWN_FIELDS[taken[0]]}" if OWN_FIELDS[taken[0]] else "Leave it out"
            raise ValueError(f"body sets {taken[0]!r}, which the policy sets itself. {way}")
        try:
            json.dumps(self.body, allow_nan=False, ensure_ascii=False).encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"body cannot be sent as JSON ({error}). Correct it") from None
        wanted = {"model": self.model, "temperature": self.temperature, **SAMPLING, **self.body}
        object.__setattr__(self, "fields", {name: value for name, value in wanted.items() if value is not None})

    @property
    def path(self) -> str:
        """Of the API, after the address."""
        return "/completions" if self.template else "/chat/completions"

    def made(self, chat: Chat, dialect: Dialect, tokens: int) -> JSON:
        """The body of the request for the next message.

        Args:
            chat: the episode so far.
            dialect: the form that the server takes.
            tokens: longest message.

        Raises:
            RefusedError: the chat template refuses the conversation.
            TemplateError: the chat template leaves the tools out.
        """
        body = {name: value for name, value in self.fields.items() if name not in dialect.unsent}
        if self.temperature != 0 and not {"seed"} & (dialect.unsent | self.body.keys()):
            body["seed"] = _seed_of(f"{self.seed}/{chat.task.id}/{len(chat.messages)}")
        body[dialect.tokens] = tokens
        if self.template:
            return {**body, "prompt": self.template.render(without_marks(chat.messages), chat.tools)}
        messages = without_marks(_structured(chat.messages) if chat.tools else chat.messages)
        body["messages"] = dialect.written(messages)
        return {**body, "tools": list(chat.tools)} if chat.tools else body

    def other(self, dialect: Dialect, refused: RefusedError, body: JSON, met: bool) -> Dialect | None:
        """The form to try after a refusal. None if no other one is likely.

        Args:
            dialect: the form that was refused.
            refused: the server's words.
            body: what was refused.
            met: whether the server has taken any request. If it has, fields that it does not name are not the reason.
        """
        if refused.status not in (400, 422):
            return None
        messages = body.get("messages", ())
        named = {name for name in (*SAMPLING, "seed") if name in body and re.search(rf"\b{name}\b", refused.said)}
        if named:
            return replace(dialect, unsent=dialect.unsent | named)
        if dialect.tokens == "max_tokens" and "max_tokens" in refused.said and _UNKNOWN.search(refused.said):
            return replace(dialect, tokens="max_completion_tokens")
        if re.search(r"\bname\b", refused.said) and any(map(_named, messages)) and _UNKNOWN.search(refused.said):
            return replace(dialect, unnamed=True)
        if any(map(_empty, messages)) and dialect.filled < 2:
            return replace(dialect, filled=dialect.filled + 1)
        if not met and (optional := body.keys() & SAMPLING.keys()):
            return replace(dialect, unsent=dialect.unsent | optional)
        return None


def characters(body: JSON) -> int:
    """Of all messages of a request of the chat API, without reasoning, which templates may drop."""
    return sum(len(_REASONING.sub("", str(message["content"] or ""))) for message in body["messages"])


class Template:
    """A chat template, rendered on this side."""

    def __init__(self, spec: str) -> None:
        from envtune.policy.checkpoint import CheckpointError, load_tokenizer

        self._tokenizer: Any = load_tokenizer(spec)
        if not self._tokenizer.chat_template:
            raise CheckpointError(
                f"the tokenizer of {spec!r} has no chat template. Give no tokenizer, and the server renders"
            )
        self._shows_tools = False
        self.digest = hashlib.sha256(str(self._tokenizer.chat_template).encode()).hexdigest()[:16]

    def render(self, messages: Sequence[Message], tools: Sequence[JSON]) -> str:
        """The text up to where the assistant writes, without the beginning-of-text token, which the server adds.

        Raises:
            RefusedError: the template refuses the conversation.
            TemplateError: the template leaves the tools out.
        """
        text = self._render(messages, tools)
        if tools and not self._shows_tools:
            check_tools(text, self._render(messages, ()), tools, self._tokenizer.name_or_path)
            self._shows_tools = True
        return text.removeprefix(self._tokenizer.bos_token or "")

    def _render(self, messages: Sequence[Message], tools: Sequence[JSON]) -> str:
        from jinja2 import TemplateError as Refusal

        try:
            return str(
                self._tokenizer.apply_chat_template(
                    list(messages), tools=list(tools) or None, add_generation_prompt=True, tokenize=False
                )
            )
        except Refusal as error:
            raise RefusedError(0, f"the chat template: {' '.join(str(error).split())[:200]}") from None

    def length(self, text: str) -> int:
        """Tokens of a rendered prompt."""
        return len(self._tokenizer.encode(text, add_special_tokens=False, verbose=False))


def _empty(message: Message) -> bool:
    return message["role"] == "assistant" and not (message["content"] or "").strip()


def _named(message: Message) -> bool:
    return message["role"] == "tool" and "name" in message


def _seed_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1


def _structured(messages: Sequence[Message]) -> list[Message]:
    """Calls as the chat API wants them: structures with ids, which the results repeat. Some servers take only ids of 9
    letters and digits.
    """
    structured: list[Message] = []
    waiting: list[str] = []
    for number, message in enumerate(messages):
        calls = parse_reply(message["content"]) if message["role"] == "assistant" else None
        if calls and calls.calls:
            waiting = [f"c{number:04d}{i:04d}" for i in range(len(calls.calls))]
            asked = [_structure(call, name) for call, name in zip(calls.calls, waiting, strict=True)]
            structured.append({"role": "assistant", "content": calls.text, "tool_calls": asked})
        elif message["role"] == "tool":
            structured.append({**message, "tool_call_id": waiting.pop(0)})
        else:
            structured.append(message)
    return structured


def _structure(call: ToolCall, name: str) -> JSON:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": name, "type": "function", "function": {"name": call.name, "arguments": arguments}}
