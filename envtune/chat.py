"""From an assistant message to calls, and back: the `<tool_call>` text of Qwen and Hermes models.

In: the text a policy produced. Out: a `Reply`, which is a plain answer, calls, or one precise `FormatError`.
Departs on purpose from BFCL's handler (`model_handler/local_inference/qwen_fc.py`, `_extract_tool_calls`):

- The handler skips calls that it cannot read and runs the rest. Here one malformed call makes the whole message a
  format error, and none of it is executed. A reward can see that, and the agent can be told.
- The handler wants a newline next to each tag. Here any JSON whitespace will do.
- The handler ignores keys other than `name` and `arguments`, keeps the last of two equal keys and reads `NaN` as a
  number. Here all three are errors.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from envtune import fastjson
from envtune.types import JSON, FormatError, FormatErrorKind, Message, ToolCall, Unusable

MAX_CHARS = 1_000_000
"""Longest message that is read at all, in characters."""
MAX_CALLS = 256
"""Most calls in one message."""
MAX_DEPTH = 64
"""Deepest nesting of one call's JSON. The call object itself is level 1."""
MAX_DIGITS = 4_300
"""Longest integer, in digits: Python refuses to print or read a longer one."""

CUT_OFF = Unusable.CUT_OFF.mark
"""The sampler appends this to a message that the length limit cut off. Such a message is a format error: a call in it
may be complete by chance, but nobody knows what was to follow."""
_MARKS = {
    CUT_OFF: "the message was cut off by the length limit; nothing of it is executed",
    Unusable.REFUSED.mark: "the server refused to answer; nothing is executed",
    Unusable.ABORTED.mark: "the answer was broken off; nothing of it is executed",
}
"""Mark at the end of a message -> the error that it stands for."""
_ENDS = tuple(_MARKS)

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_TAG = re.compile(r"</?(?:think|tool_call)>")
_SPECIAL = re.compile(r"<\|(?:im_start|im_end|endoftext)\|>")
_END_TOKENS = ("<|im_end|>", "<|endoftext|>")
_NEEDS_ESCAPE = re.compile(rf"<(?=(?:{_TAG.pattern[1:]})|(?:{_SPECIAL.pattern[1:]}))")
_SURROGATE = re.compile("[\ud800-\udfff]")
_encode = fastjson.encoder(ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """A parsed assistant message: either `error` is set, or `calls` is not empty, or it is a plain answer."""

    text: str
    """What the agent says to the user: the message without reasoning and calls, stripped. Empty if `error` is set."""
    calls: tuple[ToolCall, ...]
    error: FormatError | None


class _MalformedError(Exception):
    """Carries a `FormatError` out of the parser. It never leaves this module."""

    def __init__(self, kind: FormatErrorKind, message: str) -> None:
        super().__init__(message)
        self.error = FormatError(kind, message)


def parse_reply(text: str) -> Reply:
    """Read an assistant message. Never raises. The error says which call, which character (0-based, counted from the
    start of the message) and what was expected.

    Calls are JSON objects `{"name": str, "arguments": object}` between `<tool_call>` and `</tool_call>`. `arguments`
    may also be a string that holds the JSON object. A tag counts anywhere in the message. Inside a JSON string, write
    `\\u003c` for its `<`, as `render_calls` does.

    Reasoning is never a call. It stands between `<think>` and `</think>`, or before a first `</think>` without an
    opening tag (chat templates may put that one into the prompt). A `<think>` that is never closed hides the rest of
    the message. A `<tool_call>` in that rest is an error, because nobody can tell whether it was meant.

    Special tokens of the chat template are dropped at the end of the message. Anywhere else they are an error, because
    they would forge a message of another speaker. A message that ends with the mark of an
    unusable one, such as `CUT_OFF`, is always an error.
    """
    try:
        return _parse(text)
    except _MalformedError as malformed:
        return Reply(text="", calls=(), error=malformed.error)


def render_calls(calls: Sequence[ToolCall], text: str = "") -> str:
    """The message that holds `text` and then `calls`: the inverse of `parse_reply`, for JSON within its bounds.

    `text` is copied unchanged. It must not contain tags.
    """
    blocks = [text] if text else []
    blocks += [call_block(_encode({"name": call.name, "arguments": call.arguments})) for call in calls]
    return "\n".join(blocks)


def call_block(body: str) -> str:
    """One call, from its JSON."""
    if "<" in body:
        body = _NEEDS_ESCAPE.sub(r"\\u003c", body)
    return f"{_OPEN}\n{body}\n{_CLOSE}"


def without_marks(messages: Sequence[Message]) -> list[Message]:
    """The messages as a model may read them, without the marks of unusable ones."""
    return [{**message, "content": _without_mark(str(message["content"]))} for message in messages]


def unusable(text: str) -> Unusable | None:
    """Why a message cannot be used, or None if it can."""
    if (mark := _mark(text)) is not None:
        return next(kind for kind in Unusable if kind.mark == mark)
    return None if _end_of_message(text) else Unusable.EMPTY


def _mark(text: str) -> str | None:
    return next(filter(text.endswith, _MARKS)) if text.endswith(_ENDS) else None


def _without_mark(text: str) -> str:
    return text.removesuffix(_mark(text) or "")


def _parse(text: str) -> Reply:
    if len(text) > MAX_CHARS:
        _fail(f"the message has {len(text):,} characters; at most {MAX_CHARS:,} are read")
    if (mark := _mark(text)) is not None:
        _fail(_MARKS[mark])
    text = text[: _end_of_message(text)]
    if (found := _SURROGATE.search(text)) is not None:
        _fail(f"char {found.start()}: a lone surrogate (U+{ord(found[0]):04X}) is not text")
    if (found := _SPECIAL.search(text)) is not None:
        _fail(f"char {found.start()}: the special token {found[0]} may only end a message")
    said: list[str] = []
    calls: list[ToolCall] = []
    position = _end_of_prompted_reasoning(text)
    while (tag := _TAG.search(text, position)) is not None:
        said.append(text[position : tag.start()])
        if tag[0] == "<think>":
            position = _end_of_reasoning(text, tag)
        elif tag[0] == _OPEN:
            if len(calls) == MAX_CALLS:
                _fail(f"char {tag.start()}: a message holds at most {MAX_CALLS} calls, this one holds more")
            end = _end_of_call(text, tag, number=len(calls) + 1)
            calls.append(_read_call(text[tag.end() : end], tag.end(), number=len(calls) + 1))
            position = end + len(_CLOSE)
        else:
            _fail(f"char {tag.start()}: {tag[0]} closes nothing; expected {tag[0].replace('/', '')} before it")
    said.append(text[position:])
    return Reply(text="".join(said).strip(), calls=tuple(calls), error=None)


def _end_of_message(text: str) -> int:
    """Where the trailing white space and end tokens of the message begin."""
    end = len(text)
    while end:
        if text[end - 1].isspace():
            end -= 1
        elif (token := next((t for t in _END_TOKENS if text.endswith(t, 0, end)), None)) is not None:
            end -= len(token)
        else:
            break
    return end


def _end_of_prompted_reasoning(text: str) -> int:
    """Where the message itself begins if its `<think>` stands in the prompt, else 0."""
    closing = text.find("</think>")
    if closing == -1 or "<think>" in text[:closing]:
        return 0
    return closing + len("</think>")


def _end_of_reasoning(text: str, opening: re.Match[str]) -> int:
    closing = text.find("</think>", opening.end())
    if closing != -1:
        return closing + len("</think>")
    if (call := text.find(_OPEN, opening.end())) != -1:
        _fail(f"char {call}: {_OPEN} inside the <think> of char {opening.start()}, which is never closed")
    return len(text)


def _end_of_call(text: str, opening: re.Match[str], number: int) -> int:
    """Start of the tag that closes the call opened by `opening`."""
    where = f"call {number}, char {opening.start()}"
    closing = text.find(_CLOSE, opening.end())
    nested = text.find(_OPEN, opening.end())
    if nested != -1 and (closing == -1 or nested < closing):
        _fail(f"{where}: unclosed {_OPEN}; expected {_CLOSE} before the next {_OPEN} at char {nested}")
    if closing == -1:
        _fail(f"{where}: unclosed {_OPEN}; expected {_CLOSE} before the end of the message")
    return closing


def _read_call(body: str, start: int, number: int) -> ToolCall:
    where = f"call {number}"
    call = _read_json(body, where, start)
    if not isinstance(call, dict):
        _fail(f'{where}: expected an object {{"name": ..., "arguments": {{...}}}}, got {_kind(call)}')
    for key in ("name", "arguments"):
        if key not in call:
            got = ", ".join(map(_quote, list(call)[:4])) or "no key at all"
            _fail(f'{where}: expected the key "{key}", got {got}')
    if unexpected := [key for key in call if key not in ("name", "arguments")]:
        _fail(f'{where}: unexpected key {_quote(unexpected[0])}; a call has the keys "name" and "arguments" only')
    name, arguments = call["name"], call["arguments"]
    if not isinstance(name, str) or not name:
        _fail(f'{where}: expected "name" to be the name of a tool, got {_kind(name)}')
    if isinstance(arguments, str):
        arguments = _read_json(arguments, f'{where}, "arguments" (a string, read as JSON)', 0)
    if not isinstance(arguments, dict):
        _fail(f'{where}: expected "arguments" to be an object, got {_kind(arguments)}')
    return ToolCall(name, arguments)


def _read_json(body: str, where: str, start: int) -> Any:
    """The value that `body` holds. `start` is added to the character position in an error."""
    try:
        value = json.loads(
            body,
            object_pairs_hook=lambda pairs: _object(pairs, where),
            parse_int=lambda digits: _integer(digits, where),
            parse_float=lambda digits: _number(digits, where),
            parse_constant=lambda name: _fail(f"{where}: {name} is not JSON; expected a number", json_error=True),
        )
    except json.JSONDecodeError as error:
        found = _quote(body[error.pos : error.pos + 12]) if error.pos < len(body.rstrip()) else "the end"
        _fail(f"{where}, char {start + error.pos}: {error.msg}, found {found}", json_error=True)
    except RecursionError:
        _fail(f"{where}: nested deeper than {MAX_DEPTH} levels")
    _check_depth(value, where)
    if "\\u" in body:
        _check_unicode(value, where)
    return value


def _object(pairs: list[tuple[str, Any]], where: str) -> JSON:
    result: JSON = {}
    for key, value in pairs:
        if key in result:
            _fail(f"{where}: the key {_quote(key)} stands twice in one object; expected it once")
        result[key] = value
    return result


def _integer(digits: str, where: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        _fail(f"{where}: an integer of {len(digits.lstrip('-')):,} digits; at most {MAX_DIGITS:,} are read")
    return int(digits)


def _number(digits: str, where: str) -> float:
    if math.isinf(number := float(digits)):
        _fail(f"{where}: the number {_quote(digits)} is out of range; expected a finite one", json_error=True)
    return number


def _check_depth(value: Any, where: str) -> None:
    level, values = 0, [value]
    while values := [v for v in values if isinstance(v, dict | list)]:
        level += 1
        if level > MAX_DEPTH:
            _fail(f"{where}: nested deeper than {MAX_DEPTH} levels")
        values = [child for v in values for child in (v.values() if isinstance(v, dict) else v)]


def _check_unicode(value: Any, where: str) -> None:
    if (found := _SURROGATE.search(json.dumps(value, ensure_ascii=False))) is not None:
        _fail(f"{where}: the escape \\u{ord(found[0]):04x} is half a character; expected a pair", json_error=True)


def _fail(message: str, json_error: bool = False) -> NoReturn:
    raise _MalformedError(FormatErrorKind.INVALID_JSON if json_error else FormatErrorKind.STRUCTURE, message)


def _kind(value: Any) -> str:
    """The JSON type of `value`, with its article."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return f"the string {_quote(value)}"
    return {int: "a number", float: "a number", list: "a list", dict: "an object"}[type(value)]


def _quote(text: str) -> str:
    """`text` in double quotes, with tags escaped, cut to a length that fits into a message."""
    return _NEEDS_ESCAPE.sub(r"\\u003c", json.dumps(text if len(text) <= 40 else text[:40] + "..."))
