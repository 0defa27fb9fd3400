"""A model behind an OpenAI-compatible server (vLLM, SGLang, `transformers serve`, a hosted one) as a `Policy`.

In: chats. Out: one message each, requested in parallel over HTTP. There are two modes:

- completions, if a tokenizer is given: the chat template is rendered here and the server continues the text, as for the
  benchmark's own handler (`local_inference/base_oss_handler.py`). So it is known exactly what the model reads.
- chat, otherwise: the server renders. Tools are sent as JSON schemas. Calls are sent and received as structures, and
  turned into the text that `parse_reply` reads. Only the server knows what the model really read and wrote.

After a failure that may pass (429, 5xx, a time-out, a dropped connection), the request is tried again, with exponential
back-off and jitter, or after the time that the server names. A lasting failure is an `EndpointError`. Finished episodes
are kept, and the same command goes on from there. A chat that no longer fits into the model is data: an empty message,
cut off. The key goes into the request's header and nowhere else. The address is not recorded either.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from envtune.chat import CUT_OFF, call_block, parse_reply, without_marks
from envtune.policy.base import Chat
from envtune.types import JSON, Message, ToolCall

KEY_VARIABLE = "ENVTUNE_API_KEY"
"""Environment variable that holds the key. Not `OPENAI_API_KEY`, which must not be sent to an arbitrary host."""
MESSAGE_TOKENS = 4096
"""Longest message, as in the benchmark's handler."""

_PASSING = frozenset({408, 409, 425, 429})
_TOO_LONG = re.compile(r"context.{0,3}(length|size|window)|(model|maximum).{0,9} length|too (long|many tokens)", re.I)
_BACK_OFF = wait_random_exponential(multiplier=0.5, max=30)


class EndpointError(OSError):
    """The server cannot be used. The message is one line and names the way out."""


class _PassingError(EndpointError):
    """A failure after which to try again, after `wait` seconds if the server said so."""

    wait: float | None = None


class _TooLongError(Exception):
    """The prompt and the message do not fit into the model together. It never leaves this module."""


class Endpoint:
    """A served model.

    Args:
        url: where the API begins, such as `http://localhost:8000/v1`.
        model: its name, as the server knows it.
        tokenizer: folder or hub name. If given, the chat template is rendered here (mode `completions`).
        temperature: 0 is greedy.
        message_tokens: longest message. A longer one is cut off and counts as a format error.
        seed: each request is sent a seed made from this one, the task and the number of the message. Unused if greedy.
        concurrency: most requests at once.
        timeout: seconds that one request may take.
        patience: seconds over which a failing request is tried again, counted from its first failure.
        key_variable: environment variable that holds the API key. No key is sent if it is unset.

    Raises:
        ValueError: an invalid URL, no model, a key that is not one line of ASCII, or a number out of its range.
        CheckpointError: the tokenizer cannot be loaded.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        tokenizer: str | None = None,
        temperature: float = 0.0,
        message_tokens: int = MESSAGE_TOKENS,
        seed: int = 0,
        concurrency: int = 32,
        timeout: float = 600.0,
        patience: float = 300.0,
        key_variable: str = KEY_VARIABLE,
    ) -> None:
        if not model:
            raise ValueError(f"no model of {url} is named. Give its name on the server: model=..., or --model")
        if min(concurrency, message_tokens, timeout) <= 0 or temperature < 0:
            raise ValueError(
                f"concurrency {concurrency}, message_tokens {message_tokens} and timeout {timeout} must be above 0, "
                f"temperature {temperature} at least 0"
            )
        key = os.environ.get(key_variable, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ValueError(f"the key in {key_variable} is not one line of plain characters. Set it again")
        self.name = model.rstrip("/").rsplit("/", 1)[-1]
        self._template = _Template(tokenizer) if tokenizer else None
        self._seed, self._key_variable = seed, key_variable
        self._timeout, self._patience = timeout, patience
        self._slots = asyncio.Semaphore(concurrency)
        self._sampling: JSON = {"temperature": temperature, "max_tokens": message_tokens}
        self._model = model
        self._met = False
        self._url, self._client = _client(url, key, concurrency, timeout)
        self._loop = _background_loop()
        weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)

    @property
    def settings(self) -> JSON:
        """Model, mode, sampling, and a hash of the chat template if it is rendered here."""
        return {
            "model": self._model,
            "temperature": self._sampling["temperature"],
            "message_tokens": self._sampling["max_tokens"],
            **({"seed": self._seed} if self._sampling["temperature"] else {}),
            **({"mode": "completions", "template": self._template.digest} if self._template else {"mode": "chat"}),
        }

    def reply(self, chats: Sequence[Chat]) -> list[str]:
        """The next message of each chat. Where the chat no longer fits into the model, it is empty and cut off.

        Raises:
            EndpointError: wrong key, unknown model, or a server that stays away or keeps failing.
        """
        answers = asyncio.run_coroutine_threadsafe(self._replies(chats), self._loop)
        try:
            return answers.result()
        except BaseException:
            answers.cancel()
            raise

    async def _replies(self, chats: Sequence[Chat]) -> list[str]:
        asked = [asyncio.ensure_future(self._reply(chat)) for chat in chats]
        try:
            return await asyncio.gather(*asked)
        finally:
            for task in asked:
                task.cancel()

    async def _reply(self, chat: Chat) -> str:
        """The message. If prompt and message are too long together for the server, a shorter message is requested."""
        path, body = self._request(chat)
        longest = self._sampling["max_tokens"]
        for tokens in (longest, longest // 4, longest // 16):
            try:
                answer = await self._post(path, {**body, "max_tokens": max(1, tokens)})
                return _text_of(answer, self._url)
            except _TooLongError:
                continue
        return CUT_OFF

    def _request(self, chat: Chat) -> tuple[str, JSON]:
        body: JSON = {"model": self._model, **self._sampling}
        if body["temperature"]:
            body["seed"] = _seed_of(f"{self._seed}/{chat.task.id}/{len(chat.messages)}")
        if self._template:
            return "/completions", {**body, "prompt": self._template.render(without_marks(chat.messages), chat.tools)}
        if not chat.tools:
            return "/chat/completions", {**body, "messages": without_marks(chat.messages)}
        messages = without_marks(_structured(chat.messages))  # the mark says that no call of a message was made
        return "/chat/completions", {**body, "messages": messages, "tools": list(chat.tools)}

    async def _post(self, path: str, body: JSON) -> JSON:
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(_PassingError),
            wait=_wait,
            stop=_failing_for(self._patience),
            reraise=True,
        )
        async with self._slots:  # kept while it fails, so that no time in the queue counts
            return await attempts(self._try, path, body)

    async def _try(self, path: str, body: JSON) -> JSON:
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._client.post(self._url + path, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            kind = _PassingError if self._met else EndpointError
            raise kind(f"{self._url} cannot be reached ({_words(error)}): check the address and the server") from None
        except (httpx.TransportError, TimeoutError) as error:
            raise _PassingError(f"{self._url} failed for {self._patience:g} s, last by {_words(error)}") from None
        self._met = True
        if response.status_code != httpx.codes.OK:
            raise self._failure(response)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EndpointError(f"{self._url}{path} does not answer with JSON. Check that the address ends in /v1")
        return answer

    def _failure(self, response: httpx.Response) -> Exception:
        """The error for a status other than 200."""
        status, said = response.status_code, self._said(response)
        if status in _PASSING or status >= httpx.codes.INTERNAL_SERVER_ERROR:
            error = _PassingError(f"{self._url} failed for {self._patience:g} s, last with {status}: {said}")
            error.wait = _seconds(response.headers.get("retry-after"))
            return error
        if status in (401, 403):
            return EndpointError(
                f"{self._url} refuses the key ({status}): set the environment variable {self._key_variable}"
            )
        if status == httpx.codes.NOT_FOUND:
            return EndpointError(
                f"{self._url} has no model {self._model!r}, or the address is wrong (404: {said}); "
                f"{self._url}/models lists its models"
            )
        if status in (400, 413, 422) and _TOO_LONG.search(said):
            return _TooLongError()
        return EndpointError(f"{self._url} refuses the request for model {self._model!r} ({status}): {said}")

    def _said(self, response: httpx.Response) -> str:
        """The server's words on one line, without the key that some servers repeat."""
        words = " ".join(response.text.split())
        if key := response.request.headers.get("authorization", "").removeprefix("Bearer "):
            words = words.replace(key, "***")
        return words[:300] or response.reason_phrase


class _Template:
    """A chat template, rendered on this side."""

    def __init__(self, spec: str) -> None:
        from envtune.policy.checkpoint import CheckpointError, load_tokenizer

        self._tokenizer: Any = load_tokenizer(spec)
        if not self._tokenizer.chat_template:
            raise CheckpointError(
                f"the tokenizer of {spec!r} has no chat template. Give no tokenizer, and the server renders"
            )
        self.digest = hashlib.sha256(str(self._tokenizer.chat_template).encode()).hexdigest()[:16]

    def render(self, messages: Sequence[Message], tools: Sequence[JSON]) -> str:
        """The text up to where the assistant writes, without the beginning-of-text token, which the server adds."""
        text: str = self._tokenizer.apply_chat_template(
            list(messages), tools=list(tools) or None, add_generation_prompt=True, tokenize=False
        )
        return text.removeprefix(self._tokenizer.bos_token or "")


def _client(url: str, key: str, concurrency: int, timeout: float) -> tuple[str, httpx.AsyncClient]:
    """The address without a closing slash, and a client that keeps to the limits."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo or parsed.query:
        raise ValueError(
            f"{parsed.copy_with(userinfo=b'', query=None)!s:.200} is not the address of an API: write http://HOST:PORT/v1"
        )
    client = httpx.AsyncClient(
        headers={"Authorization": f"Bearer {key}"} if key else {},
        limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        timeout=httpx.Timeout(None, connect=min(timeout, 10.0)),
    )
    return str(parsed).rstrip("/"), client


def _background_loop() -> asyncio.AbstractEventLoop:
    """An event loop in its own thread, because notebooks already run one in theirs."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="endpoint", daemon=True).start()
    return loop


def _failing_for(patience: float) -> Callable[[RetryCallState], bool]:
    """Whether a request has failed for that many seconds, counted from its first failure."""
    first: float | None = None

    def stop(state: RetryCallState) -> bool:
        nonlocal first
        failed = state.outcome_timestamp
        assert failed is not None, "asked after an attempt"
        first = failed if first is None else first
        return failed - first >= patience

    return stop


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.wait if isinstance(error, _PassingError) else None
    return _BACK_OFF(state) if asked is None else asked


def _seconds(retry_after: str | None) -> float | None:
    """A `Retry-After` in seconds, at most ten minutes. The form with a date is not read."""
    return min(600.0, float(retry_after)) if retry_after and retry_after.isdigit() else None


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())[:200]


def _seed_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1


def _structured(messages: Sequence[Message]) -> list[Message]:
    """Calls as the chat API wants them: structures with ids, which the results repeat."""
    structured: list[Message] = []
    waiting: list[str] = []
    for number, message in enumerate(messages):
        calls = parse_reply(message["content"]) if message["role"] == "assistant" else None
        if calls and calls.calls:
            waiting = [f"call_{number}_{i}" for i in range(len(calls.calls))]
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


def _text_of(answer: JSON, url: str) -> str:
    """The message in an answer of either API."""
    try:
        choice = answer["choices"][0]
        text = choice["text"] if "text" in choice else _written(choice["message"])
        text = text.encode("utf-8", "replace").decode()
        cut = choice.get("finish_reason") == "length"
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise EndpointError(
            f"{url} does not answer as the OpenAI API does ({_words(error)}). Check that it is a model server"
        ) from None
    return text + CUT_OFF if cut else text


def _written(message: JSON) -> str:
    """The message of the chat API as one text. Arguments are JSON text and stay unchanged: the parser checks them."""
    blocks = [message["content"]] if message.get("content") else []
    for call in message.get("tool_calls") or ():
        name, arguments = call["function"]["name"], call["function"].get("arguments") or "{}"
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        blocks.append(call_block(f'{{"name": {json.dumps(name)}, "arguments": {text}}}'))
    return "\n".join(blocks)
