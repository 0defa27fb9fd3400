"""The MCP server over streamable HTTP: many clients, and safe by default.

On loopback, a request must name a loopback address as its host and, if a web page sends it, as its origin. So a page
elsewhere cannot reach the tools through the browser (DNS rebinding). Other machines are served only with a bearer
token.

Many clients never end their session. So when all places are taken, the session that has been idle longest gives way.
Its client gets 404 and starts again, as the protocol prescribes. If all sessions are busy, a new client is told to come
back (503). The server never speaks first, so it has no GET stream and answers 405, as the protocol allows.
"""

from __future__ import annotations

import re
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from envtune.extras import naming_extra

with naming_extra():
    import anyio
    import uvicorn
    from mcp.server import Server
    from mcp.server.transport_security import TransportSecuritySettings
    from starlette.datastructures import Headers
    from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = "127.0.0.1"
SESSION = "mcp-session-id"
RETRY_SECONDS = 5
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,}=*")
"""A bearer token (RFC 6750) too long to guess."""


@dataclass(frozen=True)
class Limits:
    """Limits for clients over HTTP."""

    sessions: int = 64
    """Open sessions. A further client ends the session that has been idle longest."""
    idle_seconds: float = 600.0
    """A session without a request for this long is closed, and its simulators are freed. Its client gets 404 and starts
    again. No request may take longer."""
    body_bytes: int = 1 << 20
    """Largest request (413 above). The guards bound the arguments of a call to 100,000 characters."""

    def __post_init__(self) -> None:
        if self.sessions < 1 or self.idle_seconds <= 0 or self.body_bytes < 1:
            raise ValueError(f"{self}: all limits must be above 0")


@dataclass(frozen=True)
class Access:
    """Which clients are served.

    Raises:
        ValueError: remote without a token, or a token that is too short or that no header can carry.
    """

    token: str | None = None
    """What clients must send as `Authorization: Bearer <token>`. None: nothing."""
    remote: bool = False
    """Serve clients on other machines, and under any host name. Needs a token."""

    def __post_init__(self) -> None:
        if self.remote and self.token is None:
            raise ValueError(
                "--allow-remote needs a token: --token-variable NAME, an environment variable that holds it"
            )
        if self.token is not None and not TOKEN.fullmatch(self.token):
            raise ValueError(
                f"the token has {len(self.token)} characters. It must have at least 16, from A-Z a-z 0-9 - . _ ~ + /"
            )

    def refusal(self, headers: Headers) -> Response | None:
        """The answer to a request that may not pass, or None."""
        if self.token is not None:
            scheme, _, token = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not secrets.compare_digest(token.encode(), self.token.encode()):
                return Response("a bearer token is needed", 401, {"www-authenticate": "Bearer"})
        if self.remote:
            return None
        host, origin = headers.get("host", ""), headers.get("origin")
        if not is_loopback(f"//{host}"):
            return Response(f"host {host!r} is not a loopback address", 421)
        if origin is not None and not is_loopback(origin):
            return Response(f"origin {origin!r} is not a loopback address", 403)
        return None


def is_loopback(url: str) -> bool:
    """Whether the host of a URL is a name or an address of this machine's loopback."""
    with suppress(ValueError):
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    return False


def http_app(server: Server[Any], limits: Limits | None = None, access: Access | None = None) -> Starlette:
    """Serve many clients at `/mcp`, as an ASGI application.

    Args:
        server: of `tool_server`.
        limits: see `Limits`.
        access: see `Access`. Default: loopback names only.
    """
    limits = limits or Limits()
    app = server.streamable_http_app(
        json_response=True,  # a client that has the answer then has all of the response, and its session is idle
        max_sessions=None,
        session_idle_timeout=limits.idle_seconds,
        max_request_body_size=limits.body_bytes,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    app.add_middleware(_Places, limit=limits.sessions)
    app.add_middleware(_Gate, access=access or Access(), seconds=limits.idle_seconds)
    return app


class _Gate:
    """Refuses what `Access` refuses, and lets no request stay in flight: no GET stream, no endless body or answer."""

    def __init__(self, app: ASGIApp, access: Access, seconds: float) -> None:
        self._app = app
        self._access = access
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif refused := self._access.refusal(Headers(scope=scope)):
            await refused(scope, receive, send)
        elif scope["method"] == "GET":
            await Response(status_code=405, headers={"allow": "POST, DELETE"})(scope, receive, send)
        else:
            with anyio.move_on_after(self._seconds):
                await self._app(scope, receive, send)


class _Places:
    """Keeps the open sessions within a limit. The SDK's own limit refuses new clients until old sessions time out."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._opening = 0
        self._requests: dict[str, int] = {}
        """Session -> requests in flight. The session used last stands last."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = Headers(scope=scope).get(SESSION) if scope["type"] == "http" else ""
        if session is None and self._opening + sum(map(bool, self._requests.values())) >= self._limit:
            error = {"code": -32603, "message": f"all {self._limit} sessions are busy. Try again in {RETRY_SECONDS} s"}
            body = {"jsonrpc": "2.0", "id": None, "error": error}
            await JSONResponse(body, 503, {"retry-after": str(RETRY_SECONDS)})(scope, receive, send)
        elif session is None or session in self._requests:
            await self._serve(session, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, session: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request of a session, or one that may open a session."""
        with ExitStack() as flight:
            flight.enter_context(self._use(session) if session else self._open())

            async def watch(message: Message) -> None:
                if session is None and (opened := _session_of(message)):
                    flight.close()
                    self._requests[opened] = 0
                    flight.enter_context(self._use(opened))
                    await self._make_room(scope)
                elif session and message["type"] == "http.response.start" and _ends(scope, message):
                    self._requests.pop(session, None)
                elif message["type"] == "http.response.body" and not message.get("more_body"):
                    flight.close()
                await send(message)

            await self._app(scope, receive, watch)

    @contextmanager
    def _open(self) -> Iterator[None]:
        """While a request that may open a session is in flight."""
        self._opening += 1
        try:
            yield
        finally:
            self._opening -= 1

    @contextmanager
    def _use(self, session: str) -> Iterator[None]:
        """While a request of a session is in flight."""
        self._count(session, 1)
        try:
            yield
        finally:
            self._count(session, -1)

    def _count(self, session: str, change: int) -> None:
        if session in self._requests:  # a new client may have taken its place
            self._requests[session] = self._requests.pop(session) + change

    async def _make_room(self, scope: Scope) -> None:
        """End the sessions that have been idle longest."""
        idle = [session for session, requests in self._requests.items() if not requests]
        for session in idle[: max(0, len(self._requests) - self._limit)]:
            del self._requests[session]
            headers = [(SESSION.encode(), session.encode())]
            await self._app({**scope, "method": "DELETE", "headers": headers}, _no_body, _unheard)


def _session_of(message: Message) -> str | None:
    """The session that a response opens."""
    opens = message["type"] == "http.response.start" and message["status"] < 400
    return Headers(raw=message["headers"]).get(SESSION) if opens else None


def _ends(scope: Scope, start: Message) -> bool:
    """Whether a response says that the session is gone."""
    return start["status"] == 404 or (scope["method"] == "DELETE" and start["status"] < 400)


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _unheard(message: Message) -> None:
    pass


def serve_http(
    server: Server[Any],
    port: int,
    host: str = LOOPBACK,
    limits: Limits | None = None,
    access: Access | None = None,
) -> None:
    """Serve at `http://host:port/mcp` until interrupted.

    Raises:
        OSError: the port is taken, or this machine has no such host.
        ValueError: other machines can reach the host, and `access` is not remote.
    """
    access = access or Access()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(f"cannot serve at {host}, port {port}: {error.strerror}. Choose another port or host") from error
    with listener, suppress(KeyboardInterrupt):
        if not access.remote and not ip_address(listener.getsockname()[0]).is_loopback:
            raise ValueError(
                f"other machines can reach host {host!r}. If they should, add --allow-remote and --token-variable "
                "NAME, an environment variable that holds a token"
            )
        address = f"[{host}]" if family == socket.AF_INET6 else host
        print(f"envtune: serving http://{address}:{port}/mcp", file=sys.stderr, flush=True)
        config = uvicorn.Config(http_app(server, limits, access), log_level="warning", timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[listener])
