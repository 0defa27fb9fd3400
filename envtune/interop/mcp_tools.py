"""An episode's tools behind an MCP client session: `MCPTools(task)`, for `ToolUseEnv(task, simulators=MCPTools)`.

All sessions of a process share one event loop in one thread. So a session costs no thread and no file, and ends when
its `MCPTools` is closed or collected.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from functools import cache
from threading import Thread
from typing import Any, TypeVar, cast

from envtune.environment.simulator import Expected, RawResult
from envtune.extras import naming_extra
from envtune.interop.mcp_server import ToolSession, from_mcp, tool_server
from envtune.types import Task, ToolCall

with naming_extra():
    from mcp import Client
    from mcp.server import Server

T = TypeVar("T")
CLOSING_SECONDS = 5


class LoopThread:
    """An event loop in a thread of its own. It ends with the program.

    Raises:
        OSError: no more files may be opened.
    """

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()  # made here, so that the caller gets the error
        self._stop = asyncio.Event()
        self.sessions: set[asyncio.Event] = set()
        """What ends each open session."""
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def _serve(self) -> None:
        with self._runner as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        await self._stop.wait()
        for leave in tuple(self.sessions):
            leave.set()
        if work := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(work, timeout=CLOSING_SECONDS)

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine in the loop.

        Raises:
            RuntimeError: the loop does not run: the program ends, or this is a forked process.
        """
        if not self._thread.is_alive():
            work.close()
            raise RuntimeError("this environment belongs to another process. Make it in the process that uses it")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def soon(self, call: Callable[[], object]) -> None:
        """Call a function in the loop. Waits for nothing, so the garbage collector may do it in any thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(call)

    def close(self) -> None:
        """End all sessions and the thread."""
        self.soon(self._stop.set)
        self._thread.join()


@cache
def loop_thread() -> LoopThread:
    """The loop thread of this process."""
    return LoopThread()


os.register_at_fork(after_in_child=loop_thread.cache_clear)  # a forked process has no thread


class MCPTools:
    """The tools of one episode (`environment.env.Tools`).

    The verdict reads the server's simulators directly. The agent's calls go through the protocol.
    """

    def __init__(self, task: Task) -> None:
        self._session = session = ToolSession(task)
        self._thread = loop_thread()
        opened: Future[Client] = Future()
        leave = asyncio.Event()
        server = tool_server(task, lambda: session)
        ended = self._thread.submit(_connect(server, opened, leave, self._thread.sessions))
        wait([cast(Future[Any], opened), ended], return_when=FIRST_COMPLETED)
        if ended.done():
            ended.result()  # raises what went wrong
        self._client = opened.result()
        self._leave = weakref.finalize(self, self._thread.soon, leave.set)
        self._leave.atexit = False

    def call(self, call: ToolCall) -> RawResult:
        """Run one call through the protocol."""
        result = from_mcp(self._thread.submit(self._client.call_tool(call.name, call.arguments)).result())
        return RawResult(result.text, result.error, result.guarded, result.unknown_tool)

    def reached(self, expected: Expected) -> bool:
        """Whether the state is the one that the ground truth leaves behind."""
        return self._session.reached(expected)

    def close(self) -> None:
        """End the session."""
        self._leave()


async def _connect(
    server: Server[Any], opened: Future[Client], leave: asyncio.Event, sessions: set[asyncio.Event]
) -> None:
    """A session, from its beginning to its end. Holds no `MCPTools`, so that those can be collected."""
    sessions.add(leave)
    try:
        async with Client(server, mode="legacy") as client:
            opened.set_result(client)
            await leave.wait()
    finally:
        sessions.discard(leave)
