"""The simulators behind the Model Context Protocol, with the official `mcp` SDK, over stdio and streamable HTTP.

In: a `Task`, which names the simulators and their initial states. Out: a server whose tools are those of the task's
domains, with names, descriptions and JSON schemas from the benchmark's tool documents. A result is one text, byte for
byte what `ToolUseEnv` returns. A failed call is a tool error with that text. `_meta` of a result holds
`envtune/guarded` or `envtune/unknown_tool` where they apply. Output schemas are left out, because the simulators do not
keep to the results that the documents describe.

Every client session has its own simulators, made at its first call and freed when it ends. A session needs a lasting
connection. So the server supports the handshake revisions of the protocol (up to 2025-11-25) and refuses the
sessionless one (2026-07-28). Clients that know both fall back. Calls run one after the other, in the server's own
thread. `environment.guards` bounds each call, so no timer is needed, and no two calls meet in one simulator.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from envtune.data.bfcl import TOOL_DOCS, make_task, tool_documents, tool_schema
from envtune.environment.hints import Strength, hint, hinted_text
from envtune.environment.simulator import Expected, Simulators
from envtune.extras import naming_extra
from envtune.types import JSON, Task, ToolCall, ToolResult

with naming_extra():
    import anyio
    from mcp import MCPError, types
    from mcp.server import Server, ServerRequestContext
    from mcp.server.runner import serve_loop
    from mcp.server.stdio import stdio_server
    from mcp_types import UNSUPPORTED_PROTOCOL_VERSION
    from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
    from starlette.responses import Response

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult
    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Receive, Scope, Send

GUARDED, UNKNOWN_TOOL = "envtune/guarded", "envtune/unknown_tool"
"""Keys of a result's `_meta`."""
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Limits:
    """Limits for clients over HTTP."""

    sessions: int = 64
    """Open sessions. A further client is told to come back later (503)."""
    idle_seconds: float = 600.0
    """A session without a request for this long is closed, and its simulators are freed. Its client gets 404 and starts
    again. No request may take longer."""
    body_bytes: int = 1 << 20
    """Largest request (413 above). The guards bound the arguments of a call to 100,000 characters."""

    def __post_init__(self) -> None:
        if self.sessions < 1 or self.idle_seconds <= 0 or self.body_bytes < 1:
            raise ValueError(f"{self}: all limits must be above 0")


class ToolSession:
    """The simulators of one client.

    Args:
        task: names the simulators and their initial states.
        hints: lay corrections over failed results, as in `ToolUseEnv`. The user's messages are not known here, so hints
            depend on the call, the schemas and the results so far.
        strength: how much a hint gives away.
    """

    def __init__(self, task: Task, hints: bool = False, strength: Strength = Strength.ONE) -> None:
        self._simulators = Simulators(task)
        self._schemas = schemas(task) if hints else ()
        self._strength = strength
        self._observed: list[str] = []

    def call(self, call: ToolCall) -> ToolResult:
        """Run one call. Never raises."""
        raw = self._simulators.call(call)
        text, advice = raw.text, None
        if self._schemas and (found := hint(call, raw, self._schemas, self._observed, strength=self._strength)):
            text, advice = hinted_text(raw.text, found), found.text
        self._observed.append(text)
        return ToolResult(text, raw.error, advice, raw.guarded, raw.unknown_tool)

    def reached(self, expected: Expected) -> bool:
        """Whether the simulators are as the ground truth leaves them. Used for the verdict, not by a client."""
        return self._simulators.reached(expected)


def domains_task(domains: Iterable[str]) -> Task:
    """A task without a script: these simulators, each empty.

    Args:
        domains: simulator classes, such as `GorillaFileSystem`. Where two have the same tool, the later one wins.

    Raises:
        ValueError: an unknown domain, or none.
    """
    names = list(domains)
    unknown = [name for name in names if name not in TOOL_DOCS]
    if unknown or not names:
        wrong = f"unknown domains {', '.join(unknown)}" if unknown else "no domains given"
        raise ValueError(f"{wrong}. Known: {', '.join(TOOL_DOCS)}")
    world = {"id": "domains_base_0", "question": [[]], "involved_classes": names}
    return make_task(world | {"initial_config": {name: {} for name in names}}, [[]], tool_documents())


def schemas(task: Task) -> Sequence[JSON]:
    """The schema of every tool that the task's simulators have."""
    return _schemas(task.involved_classes)


@cache
def _schemas(classes: tuple[str, ...]) -> tuple[JSON, ...]:
    docs = tool_documents()
    named = {doc["name"]: doc for cls in classes for doc in docs[cls]}
    return tuple(tool_schema(doc) for doc in named.values())


def tool_server(task: Task, open_session: Callable[[], ToolSession] | None = None) -> Server[Any]:
    """A server for the tools of `task`.

    Args:
        task: whose simulators to serve.
        open_session: makes a client's session, called once per client. Default: `ToolSession(task)`.
    """
    open_session = open_session or (lambda: ToolSession(task))
    functions = [schema["function"] for schema in schemas(task)]
    listed = [types.Tool(name=f["name"], description=f["description"], input_schema=f["parameters"]) for f in functions]

    async def list_tools(
        ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=listed)

    async def call_tool(ctx: ServerRequestContext[Any], params: types.CallToolRequestParams) -> types.CallToolResult:
        # The SDK has no public way from a request to its connection, which lives as long as the session.
        connection = ctx.session._connection
        if "session" not in connection.state:
            connection.state["session"] = open_session()
            connection.exit_stack.callback(connection.state.clear)
        session: ToolSession = connection.state["session"]
        return to_mcp(session.call(ToolCall(params.name, params.arguments or {})))

    server: Server[Any] = Server(
        "envtune",
        version=_version(),
        instructions=f"Simulated tools of {', '.join(task.involved_classes)}; every session has its own copy.",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
    server.middleware.append(_sessions_only)
    return server


async def _sessions_only(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Refuse requests without a session, naming the revisions that have one."""
    if ctx.protocol_version not in HANDSHAKE_PROTOCOL_VERSIONS:
        supported = {"supported": list(HANDSHAKE_PROTOCOL_VERSIONS), "requested": ctx.protocol_version}
        message = "these tools keep state per session; open one with the initialize handshake"
        raise MCPError(code=UNSUPPORTED_PROTOCOL_VERSION, message=message, data=supported)
    return await call_next(ctx)


def to_mcp(result: ToolResult) -> types.CallToolResult:
    """A result as a client gets it."""
    marks = {GUARDED: result.guarded, UNKNOWN_TOOL: result.unknown_tool}
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=result.text)],
        is_error=result.error,
        _meta={key: True for key, value in marks.items() if value} or None,
    )


def from_mcp(result: types.CallToolResult) -> ToolResult:
    """The inverse of `to_mcp`, except that a hint stays part of the text."""
    text = "".join(part.text for part in result.content if isinstance(part, types.TextContent))
    marks = result.meta or {}
    return ToolResult(text, result.is_error, None, bool(marks.get(GUARDED)), bool(marks.get(UNKNOWN_TOOL)))


async def serve_stdio(server: Server[Any]) -> None:
    """Serve one client on standard input and output, until it leaves."""
    try:
        async with stdio_server() as (read, write), server.lifespan(server) as state:
            await serve_loop(server, read, write, lifespan_state=state)
    except* BrokenPipeError:
        pass  # the client left before its answer


def http_app(server: Server[Any], limits: Limits | None = None, host: str = LOOPBACK) -> Starlette:
    """Serve many clients at `/mcp`, as an ASGI application.

    The server never speaks first, so it has no GET stream and answers 405, as the protocol allows. Clients would keep
    the stream open all the time, and for the SDK a session with a request in flight is not idle.

    Args:
        server: of `tool_server`.
        limits: see `Limits`.
        host: where it will listen. On loopback, requests that a web page sends under another name are refused.
    """
    limits = limits or Limits()
    app = server.streamable_http_app(
        max_sessions=limits.sessions,
        session_idle_timeout=limits.idle_seconds,
        max_request_body_size=limits.body_bytes,
        host=host,
    )
    app.add_middleware(_ShortRequests, seconds=limits.idle_seconds)
    return app


class _ShortRequests:
    """Lets no request stay in flight: no GET stream, no endless body, no answer that is never read."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["method"] == "GET":
            await Response(status_code=405, headers={"allow": "POST, DELETE"})(scope, receive, send)
        else:
            with anyio.move_on_after(self._seconds):
                await self._app(scope, receive, send)


def serve_http(server: Server[Any], port: int, host: str = LOOPBACK, limits: Limits | None = None) -> None:
    """Serve at `http://host:port/mcp` until interrupted.

    Raises:
        OSError: the port is taken, or this machine has no such host.
    """
    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(f"cannot serve at {host}, port {port}: {error.strerror}; choose another port or host") from error
    print(f"envtune: serving http://{host}:{port}/mcp", file=sys.stderr, flush=True)
    config = uvicorn.Config(http_app(server, limits, host), log_level="warning", timeout_graceful_shutdown=2)
    with listener, suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def _version() -> str:
    from envtune import __version__

    return __version__
