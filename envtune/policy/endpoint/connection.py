"""HTTP to one server: bounded answers, further attempts with back-off, and a line when it stays silent.

In: path and body of a request. Out: a `Said`. After a failure that may pass (429, 5xx, an error in a 200, a time-out, a
dropped connection) the request is tried again, with exponential back-off and jitter, and never before the time that the
server names. `post` gives up after a few failures of which the request itself may be the cause, or when nothing was
answered for `patience` seconds. The key goes into the request's header and nowhere else.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential
from tqdm.auto import tqdm

from envtune.policy.endpoint.answer import Said, read
from envtune.policy.endpoint.errors import EndpointError, OversizeError, PassingError, failure
from envtune.types import JSON, Unusable

LARGEST = 8 << 20
"""Bytes of an answer that are read. The longest message that the parser reads is a million characters."""
TRIES = 8
"""Attempts before the request itself may be the cause of a failure."""
FEW_TRIES = 2
"""The same for a request that times out, and for a server that never gave a message."""
NOTICE = 5.0
"""Seconds without an answer after which a line says so."""
BACK_OFF = wait_random_exponential(multiplier=1, min=0.25, max=10)


@dataclass
class Trouble:
    """What one request went through."""

    began: float | None = None
    """Time of its first failure."""
    faults: int = 0
    """Failures of which the request may be the cause, since the last probe."""
    kinds: Counter[Unusable] = field(default_factory=Counter)
    """All failures, by what the message counts as if the request is the cause."""

    @property
    def kind(self) -> Unusable:
        """What the message counts as: the most frequent kind, as a server may have other failures in between."""
        return self.kinds.most_common(1)[0][0]


class Connection:
    """A client of one server.

    Args:
        url: where the API begins.
        key_variable: environment variable that holds the key.
        concurrency: most requests at once.
        timeout: seconds that one request may take.
        patience: seconds without any answer after which the server is given up.

    Raises:
        ValueError: an invalid URL, a key that is not one line of ASCII, or a proxy that cannot be used.
    """

    def __init__(self, url: str, key_variable: str, concurrency: int, timeout: float, patience: float) -> None:
        key = os.environ.get(key_variable, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ValueError(f"the key in {key_variable} is not one line of plain characters. Set it again")
        self.url, self._client = _client(url, key, concurrency, timeout)
        self._timeout, self._patience = timeout, patience
        self._slots = asyncio.Semaphore(concurrency)
        self.reached = False
        """Whether a connection was ever made."""
        self._answered = float("-inf")
        """When the last answer came."""
        self._silence = _Silence(self.url, patience)

    async def post(self, path: str, body: JSON, trouble: Trouble) -> Said:
        """The server's message.

        Raises:
            PassingError: the request failed too often, or for too long. See `over`.
            RefusedError, TooLongError: as `errors.failure` says.
            OversizeError: the answer is larger than `LARGEST`.
            EndpointError: there is no server at this address.
        """
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(PassingError),
            wait=_wait,
            stop=self._stop(trouble),
            reraise=True,
        )
        async with self._slots:  # kept while it fails, so that no time in the queue counts
            return await attempts(self._try, path, body)

    def over(self, trouble: Trouble) -> bool:
        """Whether this request has failed, and nothing was answered, for `patience` seconds."""
        began = _now() if trouble.began is None else trouble.began
        return _now() - max(began, self._answered) >= self._patience

    def hopeless(self, error: PassingError) -> bool:
        """Whether there is no model server at all: it never gave a message, and what it says is none."""
        return error.foreign and self._answered == float("-inf")

    def failing(self, error: PassingError) -> str:
        """That the server is given up, on one line."""
        return f"{self.url} failed for {self._patience:g} s, last with {error.words}"

    def rest(self) -> None:
        """Stop reporting silence, because nobody waits for an answer."""
        self._silence.end()

    def _stop(self, trouble: Trouble) -> Callable[[RetryCallState], bool]:
        def stop(state: RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome else None
            assert isinstance(error, PassingError)
            trouble.began = _now() if trouble.began is None else trouble.began
            few = isinstance(error, _SlowError) or self.hopeless(error)
            trouble.kinds[error.kind] += 1
            trouble.faults += error.fault * (TRIES // FEW_TRIES if few else 1)
            self._silence.note(error)
            return (error.fault and trouble.faults >= TRIES) or self.over(trouble)

        return stop

    async def _try(self, path: str, body: JSON) -> Said:
        try:
            async with asyncio.timeout(self._timeout):
                response, content = await self._exchange(path, body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            words = f"{self.url} cannot be reached ({_words(error)}): check the address and the server"
            raise PassingError(words, fault=False) if self.reached else EndpointError(words) from None
        except TimeoutError:
            raise _SlowError(f"no answer within {self._timeout:g} s", kind=Unusable.ABORTED) from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise PassingError(_words(error), kind=Unusable.ABORTED) from None
        said = read(self._json(path, response, content))
        self._answered = _now()
        self._silence.end(answered=True)
        return said

    async def _exchange(self, path: str, body: JSON) -> tuple[httpx.Response, bytes]:
        """Status and content, of which no more than `LARGEST` is read."""
        async with self._client.stream("POST", self.url + path, json=body) as response:
            self.reached = True
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > LARGEST:
                    if response.status_code == httpx.codes.OK:
                        raise OversizeError(f"an answer of more than {LARGEST >> 20} MB")
                    break
        return response, bytes(content)

    def _json(self, path: str, response: httpx.Response, content: bytes) -> object:
        status = response.status_code
        if status != httpx.codes.OK:
            raise failure(status, self._said(response, content), _seconds(response.headers.get("retry-after")))
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            words = f"{self.url}{path} does not answer with JSON. Check that the address ends in /v1"
            raise PassingError(words, foreign=True) from None

    def _said(self, response: httpx.Response, content: bytes) -> str:
        """The server's words on one line, without the key that some servers repeat."""
        words = " ".join(content[:4096].decode("utf-8", "replace").split())
        if key := response.request.headers.get("authorization", "").removeprefix("Bearer "):
            words = words.replace(key, "***")
        to = response.headers.get("location", "")
        return f"{words[:300] or response.reason_phrase}{f' -> {to[:200]}' if to else ''}"


class _SlowError(PassingError):
    """The request took longer than it may."""


class _Silence:
    """Says once that a server does not answer, and once that it does again."""

    def __init__(self, url: str, patience: float) -> None:
        self._url, self._patience = url, patience
        self._timer: asyncio.TimerHandle | None = None
        self._words = ""
        self._told = False

    def note(self, error: PassingError) -> None:
        """A request failed."""
        self._words = error.words
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(NOTICE, self._tell)

    def end(self, answered: bool = False) -> None:
        """A request was answered, or nobody waits any more."""
        if self._timer:
            self._timer.cancel()
        if answered and self._told:
            tell(f"{self._url} answers again")
        self._timer, self._told = None, False

    def _tell(self) -> None:
        self._told = True
        tell(f"no answer from {self._url} for {NOTICE:g} s ({self._words}). Trying again for {self._patience:g} s")


def tell(line: str) -> None:
    """Write a line to standard error, above a progress bar."""
    tqdm.write(f"envtune: {line}", file=sys.stderr)


def _client(url: str, key: str, concurrency: int, timeout: float) -> tuple[str, httpx.AsyncClient]:
    """The address without a closing slash, and a client that keeps to the limits."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo or parsed.query:
        shown = str(parsed.copy_with(userinfo=b"", query=None))[:200] or "what was given"  # not the key in it
        raise ValueError(f"{shown} is not the address of an API: write http://HOST:PORT/v1")
    try:
        client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            timeout=httpx.Timeout(None, connect=min(timeout, 10.0)),
            trust_env=not _is_loopback(parsed.host),
            verify=parsed.scheme == "https",  # without it, no certificates are loaded
        )
    except ImportError:
        raise ValueError(
            "ALL_PROXY or HTTP(S)_PROXY names a SOCKS proxy, which needs `pip install 'httpx[socks]'`. Install it, or "
            "unset the variable"
        ) from None
    except (ValueError, httpx.InvalidURL) as error:
        raise ValueError(f"ALL_PROXY or HTTP(S)_PROXY cannot be used: {error!s:.200}. Correct or unset it") from None
    return str(parsed).rstrip("/"), client


def _is_loopback(host: str) -> bool:
    """Whether a host is this machine, which no proxy reaches."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.wait if isinstance(error, PassingError) else None
    return max(BACK_OFF(state), asked or 0.0)


def _seconds(retry_after: str | None) -> float | None:
    """A `Retry-After` in seconds, at most ten minutes. The form with a date is not read."""
    return min(600.0, float(retry_after)) if retry_after and retry_after.isdecimal() else None


def _now() -> float:
    return asyncio.get_running_loop().time()


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())[:200]
