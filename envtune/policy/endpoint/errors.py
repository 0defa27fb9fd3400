"""What can go wrong with a request, from a status and the server's words to one of three kinds.

- `PassingError`: tried again. If it lasts, a probe decides whether the server or the request is at fault.
- `TooLongError`: prompt and message do not fit into the model together. A shorter message is requested.
- `RefusedError`: the server does not take this request. The probe decides as well.
"""

from __future__ import annotations

import re

from envtune.types import Unusable


class EndpointError(OSError):
    """The server cannot be used. The message is one line and names the way out."""


class PassingError(EndpointError):
    """A failure after which to try again.

    Args:
        words: what happened, for a message.
        wait: seconds that the server asked for.
        fault: whether the request itself may be the cause. A server that asks for time or cannot be reached is not
            about one request.
        foreign: whether the answer is not that of a model server.
        kind: what the message counts as if the request is the cause.
    """

    def __init__(
        self,
        words: str,
        *,
        wait: float | None = None,
        fault: bool = True,
        foreign: bool = False,
        kind: Unusable = Unusable.REFUSED,
    ) -> None:
        super().__init__(words)
        self.words, self.wait, self.fault, self.foreign, self.kind = words, wait, fault, foreign, kind


class TooLongError(Exception):
    """The prompt and the message do not fit into the model together."""


class OversizeError(Exception):
    """The answer is too large to read."""


class RefusedError(Exception):
    """The server does not take this request.

    Args:
        status: of HTTP. 0: the chat template refuses, before anything is sent.
        said: the server's words on one line.
    """

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status, self.said = status, said
        self.words = f"{status}: {said}" if status else said


LASTING_QUOTA = re.compile(r"insufficient_quota|billing|credit balance", re.I)
_BUSY = frozenset({408, 425, 429, 503, 529})
"""The server asks for time."""
_TOO_LONG = re.compile(
    r"context.{0,3}(length|size|window)|(model|maximum|input|prompt|sequence).{0,9} length"
    r"|too (long|large|many .*tokens)|exceed.{0,60}(tokens|context)"
    r"|reduce (the|your) (length|prompt|input)|token limit|tokens.{0,30} (limit is|greater than)"
    r"|inputs.{0,30} must (be <=|have less than)",
    re.I,
)
_CAP = re.compile(r"max_(completion_|new_|output_)?tokens", re.I)
_ABOUT_PROMPT = re.compile(r"context|prompt|input|messages", re.I)
_ABOUT_A_FIELD = re.compile(r"(?<!content)(?<!content'): (string|array) too long|tool (name|description)", re.I)


def too_long(said: str) -> bool:
    """Whether these words say that the prompt does not fit. A cap on `max_tokens` alone, and a field such as a tool's
    name that is too long, are something else: a shorter message does not help."""
    if not _TOO_LONG.search(said) or _ABOUT_A_FIELD.search(said):
        return False
    return not _CAP.search(said) or bool(_ABOUT_PROMPT.search(said))


def failure(status: int, said: str, wait: float | None = None) -> Exception:
    """The error for a status other than 200.

    Args:
        status: of HTTP, or the code in the body of an error.
        said: the server's words on one line.
        wait: seconds that the server asked for.
    """
    if status == 413 or (status not in (401, 403, 404) and too_long(said)):
        return TooLongError(said)
    if status == 429 and LASTING_QUOTA.search(said):
        return RefusedError(status, said)
    if status in _BUSY:
        return PassingError(f"{status}: {said}", wait=wait, fault=False)
    if status >= 500 or status == 409:
        return PassingError(f"{status}: {said}", wait=wait)
    return RefusedError(status, said)


_OPTIONS: tuple[tuple[str, str], ...] = (
    (r"tool.?choice|tool.?call.?parser", "Start vLLM with --enable-auto-tool-choice --tool-call-parser hermes"),
    (r"temperature", "Try --temperature none, or another temperature"),
    (_CAP.pattern, "Try --message-tokens N with a smaller N"),
    (r"template|roles must|tool use|support.{0,9} tools", "Try --tokenizer NAME: the chat template is rendered here"),
)
"""Words of a server -> the option that helps."""


def advice(error: RefusedError, key_variable: str, url: str) -> str:
    """The way out of a refusal, a sentence."""
    if error.status in (401, 403):
        return f"If the key is the reason, set the environment variable {key_variable}"
    if error.status in (402, 429):
        return "The account has no credit left. The same command goes on once it has"
    if 300 <= error.status < 400:
        return "Give the address that it redirects to"
    if error.status in (404, 405):
        return f"{url}/models lists its models, and the address ends in /v1"
    found = [option for words, option in _OPTIONS if re.search(words, error.said, re.I)]
    return found[0] if found else "--body changes what is sent, such as --body '{\"top_k\": null}'"
