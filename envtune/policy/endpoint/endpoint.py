"""A model behind an OpenAI-compatible server (vLLM, SGLang, `transformers serve`, a hosted one) as a `Policy`.

In: chats. Out: one message each, requested in parallel over HTTP. There are two modes:

- completions, if a tokenizer is given: the chat template is rendered here and the server continues the text, as for the
  benchmark's own handler (`local_inference/base_oss_handler.py`). So it is known exactly what the model reads.
- chat, otherwise: the server renders. Tools are sent as JSON schemas. Calls are sent and received as structures, and
  turned into the text that `parse_reply` reads. Only the server knows what the model really read and wrote.

A message that cannot be had is data (`types.Unusable`). When a request fails or is refused, a *probe* decides why: a
request that was answered before, or at the start a greeting with the same tools. If the probe is answered, the request
is the cause. Its message is marked, and the evaluation goes on. If not, the server is the cause. Passing failures are
then retried for `patience` seconds, and a lasting one is an `EndpointError` with the server's own words. Finished
episodes are kept, and the same command goes on from there.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Sequence

import httpx

from envtune.chat import CUT_OFF
from envtune.policy.base import SHORT_PROMPT, WITHOUT, Chat
from envtune.policy.endpoint.answer import Said
from envtune.policy.endpoint.connection import Connection, Trouble, tell
from envtune.policy.endpoint.errors import (
    EndpointError,
    OversizeError,
    PassingError,
    RefusedError,
    TooLongError,
    advice,
)
from envtune.policy.endpoint.probe import Probe, Server, greeting
from envtune.policy.endpoint.request import Dialect, Requests, Template, characters
from envtune.types import JSON, Unusable

KEY_VARIABLE = "ENVTUNE_API_KEY"
"""Environment variable that holds the key. Not `OPENAI_API_KEY`, which must not be sent to an arbitrary host."""
MESSAGE_TOKENS = 4096
"""Longest message, as in the benchmark's handler."""
ALIKE = 4
"""If at least so many first requests are refused and none is answered, the evaluation stops."""
LINES = 10
"""An endpoint writes at most so many different lines about its server."""
CHARACTERS_OF_A_TOKEN = 20
"""More than any tokenizer packs into a token of running text. English has about 4."""


class Endpoint:
    """A served model.

    Args:
        url: where the API begins, such as `http://localhost:8000/v1`.
        model: its name, as the server knows it.
        tokenizer: folder or hub name. If given, the chat template is rendered here (mode `completions`).
        temperature: 0 is greedy. None: it is not sent, and the server decides.
        message_tokens: longest message. A longer one is cut off and counts as a format error.
        body: further fields of every request, such as `{"chat_template_kwargs": {"enable_thinking": False}}`. They
            replace those of `request.SAMPLING`. None as a value leaves a field out.
        seed: each request is sent a seed made from this one, the task and the number of the message. Unused if greedy.
        concurrency: most requests at once.
        timeout: seconds that one request may take.
        patience: seconds without any answer after which the server is given up.
        key_variable: environment variable that holds the API key. No key is sent if it is unset.

    Raises:
        ValueError: an invalid URL, no model, a key that is not one line of ASCII, a proxy that cannot be used, or a
            number or field out of its range.
        CheckpointError: the tokenizer cannot be loaded.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        tokenizer: str | None = None,
        temperature: float | None = 0.0,
        message_tokens: int = MESSAGE_TOKENS,
        body: JSON | None = None,
        seed: int = 0,
        concurrency: int = 32,
        timeout: float = 600.0,
        patience: float = 300.0,
        key_variable: str = KEY_VARIABLE,
    ) -> None:
        if not model:
            raise ValueError(f"no model of {url} is named. Give its name on the server: model=..., or --model")
        if min(concurrency, message_tokens, timeout) <= 0 or (temperature or 0.0) < 0:
            raise ValueError(
                f"concurrency {concurrency}, message_tokens {message_tokens} and timeout {timeout} must be above 0, "
                f"temperature {temperature} at least 0"
            )
        self.name = model.rstrip("/").rsplit("/", 1)[-1]
        self._connection = Connection(url, key_variable, concurrency, timeout, patience)
        template = Template(tokenizer) if tokenizer else None
        self._requests = Requests(model, temperature, message_tokens, seed, body or {}, template)
        self._dialect = Dialect()
        self._key_variable = key_variable
        self._met = False
        self._first = asyncio.Lock()
        self._probe = Probe(self._connection, self._sent)
        self._known: tuple[int, JSON] | None = None
        self._lengths: dict[str, tuple[int, int]] = {}
        self._told: set[str] = set()
        self._loop = _background_loop()
        weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)

    @property
    def settings(self) -> JSON:
        """Model, mode, all that is sent for sampling, and a hash of the chat template if it is rendered here."""
        ours = self._requests
        return {
            "model": ours.model,
            "temperature": ours.temperature,
            "message_tokens": ours.message_tokens,
            "sampling": {name: value for name, value in ours.fields.items() if name not in ("model", "temperature")},
            **({"seed": ours.seed} if ours.temperature != 0 else {}),
            **({"mode": "completions", "template": ours.template.digest} if ours.template else {"mode": "chat"}),
        }

    def reply(self, chats: Sequence[Chat]) -> list[str]:
        """The next message of each chat. One that cannot be had is marked, see `types.Unusable`.

        Raises:
            EndpointError: the server takes no requests, stays away, or leaves the tools out.
            TemplateError: the chat template leaves the tools out.
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
            found = await asyncio.gather(*asked)
        finally:
            for task in asked:
                task.cancel()
            self._connection.rest()
        refused = [answer for answer in found if isinstance(answer, RefusedError)]
        if not self._met and len(refused) == len(found) >= ALIKE:
            raise self._stopped(refused[0])
        return [answer if isinstance(answer, str) else Unusable.REFUSED.mark for answer in found]

    async def _reply(self, chat: Chat) -> str | RefusedError:
        """The message, or why the server does not take the request although it takes others."""
        trouble = Trouble()
        while True:
            try:
                return await self._written(chat, trouble)
            except OversizeError as error:
                self._tell(f"{error} was not read. Its message counts as `{Unusable.ABORTED}`")
                return Unusable.ABORTED.mark
            except RefusedError as refused:
                server = await self._probe.server(chat)
                if server is Server.GONE:
                    raise self._stopped(refused) from None
                if server is Server.ANSWERS:
                    self._tell(f"a request was refused ({refused.words}). Its message counts as `{Unusable.REFUSED}`")
                    return refused
            except PassingError as error:
                if (server := await self._probe.server(chat, trouble.began)) is Server.GONE:
                    hopeless = self._connection.hopeless(error)
                    raise EndpointError(error.words if hopeless else self._connection.failing(error)) from None
                if server is Server.ANSWERS:
                    self._tell(f"a request failed each time ({error.words}). Its message counts as `{trouble.kind}`")
                    return trouble.kind.mark
            trouble = Trouble()

    async def _written(self, chat: Chat, trouble: Trouble) -> str:
        """The message. If prompt and message are too long together for the server, a shorter message is requested."""
        longest = self._requests.message_tokens
        for tokens in (longest, longest // 4, longest // 16):
            try:
                said, body = await self._taken(chat, max(1, tokens), trouble)
            except TooLongError:
                continue
            if self._known is None or len(chat.messages) < self._known[0]:
                self._known = len(chat.messages), body
            await self._meet(chat, said)
            self._note(chat, said, body)
            return said.text
        return CUT_OFF

    async def _taken(self, chat: Chat, tokens: int, trouble: Trouble) -> tuple[Said, JSON]:
        """The server's answer, and the request in the form that the server took."""
        dialect: Dialect = self._dialect
        while True:
            body = self._requests.made(chat, dialect, tokens)
            try:
                said = await self._connection.post(self._requests.path, body, trouble)
            except RefusedError as refused:
                known = dialect.learned(self._dialect)  # meanwhile another request may have found out more
                other = known if known != dialect else self._requests.other(dialect, refused, body, self._met)
                if other is None:
                    raise
                dialect = other
            else:
                self._dialect = self._dialect.learned(dialect)
                return said, body

    async def _sent(self, chat: Chat, trouble: Trouble) -> None:
        """Send the probe: a request that was answered before, or a greeting."""
        if self._known:
            await self._connection.post(self._requests.path, self._known[1], trouble)
        else:
            await self._taken(greeting(chat), self._requests.message_tokens, trouble)

    async def _meet(self, chat: Chat, said: Said) -> None:
        """Look at the first answer, before any other is used."""
        async with self._first:
            if not self._met:
                await self._check_tools(chat, said)
                self._met = True

    async def _check_tools(self, chat: Chat, said: Said) -> None:
        """Refuse a server whose chat template leaves the tools out: an agent that reads no tool can only fail.

        If a first prompt is much shorter than its tools, it is sent again without them, and must then be shorter.
        """
        if not said.prompt_tokens or self._requests.template or not chat.tools:
            return
        if said.prompt_tokens > len(str(chat.tools)) / CHARACTERS_OF_A_TOKEN:
            return
        try:
            bare, _ = await self._taken(Chat(chat.task, chat.messages, ()), 1, Trouble())
        except (TooLongError, OversizeError, EndpointError, RefusedError):
            return
        if bare.prompt_tokens and said.prompt_tokens <= bare.prompt_tokens:
            raise EndpointError(
                f"the chat template of {self._requests.model!r} on {self._connection.url} ignores `tools`: the prompt "
                f"has {said.prompt_tokens} tokens with {len(chat.tools)} tools and without. Give the server another "
                "template, or use --protocol paper, which lists the tools in a message"
            )

    def _note(self, chat: Chat, said: Said, body: JSON) -> None:
        """Write down what differs from what was asked for."""
        if unsent := sorted(self._dialect.unsent - body.keys()):
            chat.notes.update(WITHOUT + name for name in unsent)
            self._tell(f"the server takes requests only without {', '.join(unsent)}")
        if said.prompt_tokens and self._is_short(chat, body, said.prompt_tokens):
            chat.notes[SHORT_PROMPT] += 1
            self._tell(
                "the server cuts long prompts without saying so: it counted fewer tokens than a chat has "
                f"({said.prompt_tokens} in {chat.task.id}). Give it a longer context"
            )

    def _is_short(self, chat: Chat, body: JSON, tokens: int) -> bool:
        """Whether the server read fewer tokens than the prompt has: by the tokenizer, or by a lower bound."""
        if template := self._requests.template:
            return tokens < 0.9 * template.length(body["prompt"]) - 16
        length = characters(body)
        before = self._lengths.get(chat.task.id, (length, 0))
        self._lengths[chat.task.id] = length, tokens
        grown = before[1] + (length - before[0]) / CHARACTERS_OF_A_TOKEN if length > before[0] else 0
        return tokens < max(grown, length / CHARACTERS_OF_A_TOKEN)

    def _stopped(self, refused: RefusedError) -> EndpointError:
        """The end of an evaluation whose requests are refused."""
        if not refused.status:
            return EndpointError(f"{refused.said}. Give another --tokenizer, or none: then the server renders")
        url, model = self._connection.url, self._requests.model
        what = f"refuses the request for model {model!r}"
        if refused.status == httpx.codes.NOT_FOUND:
            what = f"has no model {model!r}, or the address is wrong"
        way_out = advice(refused, self._key_variable, url)
        return EndpointError(f"{url} {what} ({refused.status}): {refused.said}. {way_out}")

    def _tell(self, line: str) -> None:
        """Say a thing once, and not more than a few."""
        if (kind := line[:60]) not in self._told and len(self._told) < LINES:
            self._told.add(kind)
            tell(line)


def _background_loop() -> asyncio.AbstractEventLoop:
    """An event loop in its own thread, because notebooks already run one in theirs."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="endpoint", daemon=True).start()
    return loop
