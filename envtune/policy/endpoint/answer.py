"""From a server's answer to one message.

In: the JSON of a 200. Out: a `Said`: the text that `parse_reply` reads, and how many prompt tokens the server counted.
An answer without a message is a `PassingError`, because a server in trouble answers so, too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from envtune.chat import call_block, parse_reply
from envtune.policy.endpoint.errors import PassingError, failure
from envtune.types import JSON, ToolCall, Unusable

_CUT = frozenset({"length", "model_length", "max_tokens", "max_output_tokens", "max_length", "token_limit"})
_REFUSED = frozenset({"content_filter", "safety", "prohibited_content", "recitation", "blocklist", "guardrail"})
_ABORTED = frozenset({"abort", "aborted", "cancelled", "canceled", "error", "timeout"})


@dataclass(frozen=True, slots=True)
class Said:
    """A message."""

    text: str
    """With the mark of its kind, if it cannot be used."""
    prompt_tokens: int | None = None
    """Length of the prompt, as the server counted it."""


def read(answer: Any) -> Said:
    """The message in an answer of either API.

    Raises:
        PassingError: there is no message, or the server says that it stopped writing.
        RefusedError, TooLongError: the answer is an error with a code, or with words that say so.
    """
    if isinstance(answer, dict) and not answer.get("choices") and (error := _error_in(answer)):
        raise _error(error)
    try:
        choice = answer["choices"][0]
        ended = str(choice.get("finish_reason")).lower()
        text = choice["text"] if "text" in choice else _written(choice["message"])
        text = text.encode("utf-8", "replace").decode()
    except (KeyError, IndexError, TypeError, AttributeError):
        words = f"an answer that is not the OpenAI API's ({_line(answer)[:200]}). Check that it is a model server"
        raise PassingError(words, foreign=True) from None
    if ended in _ABORTED:
        raise PassingError(f"a message that the server broke off ({ended})", kind=Unusable.ABORTED)
    kind = Unusable.CUT_OFF if ended in _CUT else Unusable.REFUSED if ended in _REFUSED else None
    return Said(text + kind.mark if kind else text, _prompt_tokens(answer))


def _error_in(answer: JSON) -> Any:
    """Under `error`, or the whole answer, as FastChat and LMDeploy send it."""
    return answer.get("error") or (answer if answer.get("object") == "error" else None)


def _error(error: Any) -> Exception:
    """A 200 that holds an error instead of a message."""
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return failure(status, _line(error)[:300])


def _line(content: Any) -> str:
    """JSON on one line, as the server sent it."""
    return " ".join(json.dumps(content, ensure_ascii=False).split())


def _prompt_tokens(answer: JSON) -> int | None:
    usage = answer.get("usage")
    found = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return found if isinstance(found, int) and found > 0 else None


def _written(message: JSON) -> str:
    """The message of the chat API as one text. Arguments are JSON text and stay unchanged: the parser checks them."""
    text = _text(message.get("content")) or _text(message.get("refusal"))
    calls = message.get("tool_calls") or [{"function": call} for call in [message.get("function_call")] if call]
    said_already = list(parse_reply(text).calls) if calls and text else []
    blocks = [text] if text else []
    for call in calls:
        name, arguments = call["function"]["name"], call["function"].get("arguments") or "{}"
        arguments = arguments if isinstance(arguments, str) else json.dumps(arguments)
        block = call_block(f'{{"name": {json.dumps(name)}, "arguments": {arguments}}}')
        if said_already and (same := _first_call(block)) in said_already:
            said_already.remove(same)  # some servers give a call twice, in the text and as a structure
        else:
            blocks.append(block)
    return "\n".join(blocks)


def _text(content: Any) -> str:
    """Content is a text, a list of parts, or null."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content)
    return content or ""


def _first_call(block: str) -> ToolCall | None:
    calls = parse_reply(block).calls
    return calls[0] if calls else None
