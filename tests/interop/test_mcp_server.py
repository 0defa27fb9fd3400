"""The tools behind MCP: the official client on three transports, the inspector's command line, and the limits."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx
import jsonschema
import pytest
from mcp import Client, StdioServerParameters
from mcp_types import TextContent

from envtune.data.bfcl import TOOL_DOCS, tool_documents
from envtune.environment.env import replay
from envtune.interop import mcp_server
from envtune.interop.mcp_server import ToolSession, domains_task, from_mcp, to_mcp, tool_server
from envtune.types import ToolCall, ToolResult

TASK = "multi_turn_base_0"
COMMAND = [sys.executable, "-c", "from envtune.cli import main; main()", "mcp"]
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}},
}
ACCEPT = {"accept": "application/json, text/event-stream"}


def text_of(result) -> str:
    (part,) = result.content
    assert isinstance(part, TextContent)
    return part.text


@contextmanager
def http_server(*options: str) -> Iterator[str]:
    """A server process on a free port; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([*COMMAND, "--task", TASK, "--http", str(port), *options], stderr=subprocess.PIPE)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with http_server() as found:
        yield found


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
        unknown = await client.call_tool("launch", {})
        assert unknown.is_error and from_mcp(unknown).unknown_tool
        assert text_of(unknown) == "Error during execution: name 'launch' is not defined"
        await client.call_tool("touch", {"file_name": "naïve 文件 🗂.txt"})
        assert "naïve 文件 🗂.txt" in json.loads(text_of(await client.call_tool("ls", {})))["current_directory_content"]


def test_over_memory(by_id):
    anyio.run(tour, tool_server(by_id[TASK]), "legacy")


def test_over_stdio():
    anyio.run(
        tour, StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], "--task", TASK], env=dict(os.environ))
    )


def test_over_http(address):
    anyio.run(tour, address)
    anyio.run(tour, address, "legacy")


def test_every_schema_is_a_json_schema():
    names = set()
    for schema in mcp_server.schemas(domains_task(TOOL_DOCS)):
        jsonschema.Draft202012Validator.check_schema(schema["function"]["parameters"])
        names.add(schema["function"]["name"])
    assert len(names) == 128


def test_results_are_those_of_the_environment(by_id):
    """Ground truths, with a failing and an unknown call after each, read the same through MCP."""

    async def play(task):
        calls = [c for turn in task.ground_truth for call in turn for c in (call, ToolCall(call.name, {"nosuch": 1}))]
        calls.append(ToolCall("__import__", {"name": "os"}))
        async with Client(tool_server(task), mode="legacy") as client:
            results = [from_mcp(await client.call_tool(call.name, call.arguments)) for call in calls]
        expected = replay(task, [[calls]]).steps[0].results
        assert results == list(expected)

    for task_id in (
        "multi_turn_base_0",
        "multi_turn_long_context_60",
        "multi_turn_miss_func_110",
        "multi_turn_base_150",
    ):
        anyio.run(play, by_id[task_id])


def test_guards_are_on():
    async def abuse():
        async with Client(tool_server(domains_task(["MathAPI"])), mode="legacy") as client:
            result = await client.call_tool("power", {"base": 10, "exponent": 10**10})
            assert result.is_error and from_mcp(result).guarded
            assert text_of(await client.call_tool("add", {"a": 1, "b": 2})) == '{"result": 3}'

    anyio.run(abuse)


def test_hints_are_switched_on(by_id):
    async def fail(task, hints):
        async with Client(tool_server(task, lambda: ToolSession(task, hints)), mode="legacy") as client:
            return text_of(await client.call_tool("cd", {"folder": "document/notes"}))

    plain, hinted = (anyio.run(fail, by_id[TASK], hints) for hints in (False, True))
    assert hinted.startswith(plain[:20]) and len(hinted) > len(plain)


def test_results_survive_the_way():
    for result in (ToolResult("ok", False), ToolResult("", True, None, True, True), ToolResult("x", True, None, True)):
        assert from_mcp(to_mcp(result)) == result


@pytest.mark.parametrize("domains", [[], ["GorillaFileSystem", "Nosuch"]])
def test_unknown_domains_are_refused(domains):
    with pytest.raises(ValueError, match="unknown domains"):
        domains_task(domains)


def test_two_clients_never_see_each_other_and_leave_nothing(by_id):
    task, opened = by_id[TASK], weakref.WeakSet()

    def remember() -> ToolSession:
        session = ToolSession(task)
        opened.add(session)
        return session

    async def two():
        server = tool_server(task, remember)
        async with Client(server, mode="legacy") as one, Client(server, mode="legacy") as other:
            await one.call_tool("touch", {"file_name": "mine"})
            assert "mine" in text_of(await one.call_tool("ls", {}))
            assert "mine" not in text_of(await other.call_tool("ls", {}))
            assert len(opened) == 2

    anyio.run(two)
    gc.collect()
    assert len(opened) == 0


def test_over_http_every_client_has_its_own_state(address):
    async def two():
        async with Client(address) as one, Client(address) as other:
            await one.call_tool("touch", {"file_name": "mine"})
            assert "mine" in text_of(await one.call_tool("ls", {}))
            assert "mine" not in text_of(await other.call_tool("ls", {}))

    anyio.run(two)


def test_session_limit_and_idle_time():
    with http_server("--sessions", "2", "--idle", "1") as address:
        opened = [httpx.post(address, json=INITIALIZE, headers=ACCEPT) for _ in range(3)]
        assert [answer.status_code for answer in opened] == [200, 200, 503]
        session = {"mcp-session-id": opened[0].headers["mcp-session-id"]}
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        assert httpx.post(address, json=ping, headers=ACCEPT | session).status_code == 200
        time.sleep(2.5)
        assert httpx.post(address, json=ping, headers=ACCEPT | session).status_code == 404
        assert httpx.post(address, json=INITIALIZE, headers=ACCEPT).status_code == 200


def test_large_bodies_and_foreign_hosts_are_refused(address):
    large = INITIALIZE | {"padding": "x" * mcp_server.Limits.body_bytes}
    assert httpx.post(address, json=large, headers=ACCEPT).status_code == 413
    assert httpx.post(address, json=INITIALIZE, headers=ACCEPT | {"host": "evil.example"}).status_code == 421
    with pytest.raises(ValueError, match="above 0"):
        mcp_server.Limits(sessions=0)


def test_no_request_without_a_session(address):
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ls", "arguments": {}}}
    assert httpx.post(address, json=call, headers=ACCEPT).status_code == 400
    version = "2026-07-28"
    meta = {"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}}
    modern = {**call, "params": call["params"] | {"_meta": meta}}
    names = {"mcp-protocol-version": version, "mcp-method": "tools/call", "mcp-name": "ls"}
    answer = httpx.post(address, json=modern, headers=ACCEPT | names)
    assert answer.json()["error"]["message"].startswith("these tools keep state per session"), answer.text


def test_a_client_that_disappears_mid_call(address):
    """The socket closes before the answer; the others go on, and the session still has its state."""
    opened = httpx.post(address, json=INITIALIZE, headers=ACCEPT)
    session = {"mcp-session-id": opened.headers["mcp-session-id"]}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    body = json.dumps(call | {"params": {"name": "touch", "arguments": {"file_name": "late"}}}).encode()
    host, port = address.split("/")[2].split(":")
    head = (
        f"POST /mcp HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\naccept: {ACCEPT['accept']}\r\n"
    )
    head += f"mcp-session-id: {session['mcp-session-id']}\r\ncontent-length: {len(body)}\r\n\r\n"
    for cut in (len(body) // 2, len(body)):
        with socket.create_connection((host, int(port))) as gone:
            gone.sendall(head.encode() + body[:cut])
    anyio.run(tour, address)
    ls = call | {"id": 2, "params": {"name": "ls", "arguments": {}}}
    answer = httpx.post(address, json=ls, headers=ACCEPT | session)
    assert answer.status_code == 200 and "current_directory_content" in answer.text


def test_a_stdio_client_that_disappears_ends_the_server():
    process = subprocess.Popen([*COMMAND, "--task", TASK], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin and process.stdout
    process.stdin.write(json.dumps(INITIALIZE).encode() + b"\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["result"]["serverInfo"]["name"] == "envtune"
    process.stdin.write(b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call"')
    process.stdin.close()
    process.stdout.close()
    assert process.wait(timeout=30) is not None


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ([], 2, "give either --task ID or --domains A,B"),
        (["--task", "multi_turn_base_999"], 1, "unknown task 'multi_turn_base_999'"),
        (["--domains", "Files"], 1, "unknown domains"),
    ],
)
def test_wrong_usage_is_one_line(options, code, says):
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr


INSPECTOR = "@modelcontextprotocol/inspector"


@pytest.fixture(scope="module")
def inspector(tmp_path_factory) -> Path:
    """The MCP inspector from npm, in a version for the node that is here."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("inspector")
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", f"{INSPECTOR}@0.14.3"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        pytest.skip(f"npm cannot fetch the inspector: {done.stderr.strip().splitlines()[-1]}")
    return folder / "node_modules" / ".bin" / "mcp-inspector"


@pytest.mark.slow
def test_the_inspector_lists_and_calls(inspector):
    def inspect(*arguments: str) -> dict:
        command = [str(inspector), "--cli", *COMMAND, "--task", TASK, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert len(inspect("--method", "tools/list")["tools"]) == 32
    call = ("--method", "tools/call", "--tool-name", "cd", "--tool-arg", "folder=document")
    assert inspect(*call)["content"][0]["text"] == '{"current_working_directory": "document"}'
    assert inspect(*call[:-1], "folder=nowhere")["isError"] is True
