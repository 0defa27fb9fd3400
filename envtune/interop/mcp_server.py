"""The simulators behind the Model Context Protocol, with the official `mcp` SDK. `mcp_http` serves them over HTTP.

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

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from envtune.data.bfcl import TOOL_DOCS, make_task, tool_documents, tool_schema
from envtune.environment.hints import Strength, hint, hinted_text
from envtune.environment.simulator import Expected, Simulators
from envtune.extras import naming_extra
from envtune.types import JSON, Task, ToolCall, ToolResult

with naming_extra():
    from mcp import MCPError, types
    from mcp.server import Server, ServerRequestContext
    from mcp.server.connection import Connection
    from mcp.server.runner import serve_connection
    from mcp.server.stdio import stdio_server
    from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
    from mcp_types import UNSUPPORTED_PROTOCOL_VERSION
    from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult

GUARDED, UNKNOWN_TOOL = "envtune/guarded", "envtune/unknown_tool"
"""Keys of a result's `_meta`."""


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
        message = "these tools keep state per session. Open a session with the initialize handshake"
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


class _AllMethods(frozenset[str]):
    """Holds every method."""

    def __contains__(self, method: object) -> bool:
        return True


async def serve_stdio(server: Server[Any]) -> None:
    """Serve one client on standard input and output, until the input ends.

    Every request is answered before the next line is read. Otherwise the SDK drops those that are still open when the
    input ends.
    """
    try:
        async with stdio_server() as (read, write), server.lifespan(server) as state:
            dispatcher: JSONRPCDispatcher[Any] = JSONRPCDispatcher(read, write, inline_methods=_AllMethods())
            connection = Connection.for_loop(dispatcher)
            await serve_connection(server, dispatcher, connection=connection, lifespan_state=state)
    except* BrokenPipeError:
        pass  # the client left before its answer


def _version() -> str:
    from envtune import __version__

    return __version__
