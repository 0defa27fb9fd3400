"""What the tests of the MCP server share: clients, and servers in a process or a thread."""

from __future__ import annotations

import gc
import json
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import anyio
import httpx
import uvicorn
from mcp import Client
from mcp_types import TextContent

from envtune.data.bfcl import tool_documents
from envtune.interop.mcp_http import Access, Limits, http_app
from envtune.interop.mcp_server import ToolSession, from_mcp

TASK = "multi_turn_base_0"
COMMAND = [sys.executable, "-m", "envtune", "mcp"]
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}},
}
ACCEPT = {"accept": "application/json, text/event-stream"}


def call_message(number: int, name: str, **arguments: str) -> dict:
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


def opening(address: str, **headers: str) -> httpx.Response:
    """The answer to the request that opens a session, from a client that never says goodbye."""
    return httpx.post(address, json=INITIALIZE, headers=ACCEPT | headers, timeout=60)


def session_of(opened: httpx.Response) -> dict[str, str]:
    """The headers of all further requests."""
    assert opened.status_code == 200, opened.text
    return ACCEPT | {"mcp-session-id": opened.headers["mcp-session-id"]}


def text_of(result) -> str:
    (part,) = result.content
    assert isinstance(part, TextContent)
    return part.text


@contextmanager
def http_server(*options: str, host: str = "127.0.0.1", **settings) -> Iterator[str]:
    """A server process on a free port; its address on the loopback. Ctrl-C ends it without a word."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*COMMAND, "--task", TASK, "--http", str(port), "--host", host, *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **settings)
    try:
        assert process.stderr and process.stderr.readline() == f"envtune: serving http://{host}:{port}/mcp\n"
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=300)[1]
    assert (process.returncode, errors) == (-signal.SIGINT, "")


@contextmanager
def served(server, limits: Limits | None = None, access: Access | None = None) -> Iterator[str]:
    """A server in a thread of this process; its address."""
    config = uvicorn.Config(http_app(server, limits, access), port=0, log_level="warning")
    runner = uvicorn.Server(config)
    thread = Thread(target=runner.run)
    thread.start()
    try:
        while not runner.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield "http://{}:{}/mcp".format(*runner.servers[0].sockets[0].getsockname())
    finally:
        runner.should_exit = True
        thread.join()


class Sessions:
    """Opens sessions and knows which are still there."""

    def __init__(self, task) -> None:
        self._task = task
        self.open: weakref.WeakSet[ToolSession] = weakref.WeakSet()

    def __call__(self) -> ToolSession:
        session = ToolSession(self._task)
        self.open.add(session)
        return session

    def fall_to(self, number: int, seconds: float = 300) -> None:
        """Wait until at most so many are left."""
        end = time.monotonic() + seconds
        while len(self.open) > number:
            assert time.monotonic() < end, f"{len(self.open)} sessions are left"
            gc.collect()
            time.sleep(0.02)


async def tour(server, mode: str = "auto") -> None:
    """What every transport must do."""
    async with Client(server, mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        docs = {doc["name"]: doc for cls in ("TwitterAPI", "GorillaFileSystem") for doc in tool_documents()[cls]}
        assert {name: tool.description for name, tool in tools.items()} == {
            n: d["description"] for n, d in docs.items()
        }
        first = await client.call_tool("cd", {"folder": "document"})
        assert (text_of(first), first.is_error) == ('{"current_working_directory": "document"}', False)
        wrong = await client.call_tool("cd", {"folder": "nowhere"})
        assert wrong.is_error and "nowhere" in text_of(wrong)
        for name in ("launch", "_load_scenario", "startEngine"):  # nowhere; not a tool; another domain's
            unknown = await client.call_tool(name, {})
            assert unknown.is_error and from_mcp(unknown).unknown_tool
            assert text_of(unknown) == f"Error during execution: name '{name}' is not defined"
        await client.call_tool("touch", {"file_name": "naïve 文件 🗂.txt"})
        assert "naïve 文件 🗂.txt" in json.loads(text_of(await client.call_tool("ls", {})))["current_directory_content"]


async def freed(sessions: Sessions, number: int = 0) -> None:
    """Wait in a thread, because a server may share this loop."""
    await anyio.to_thread.run_sync(sessions.fall_to, number)
