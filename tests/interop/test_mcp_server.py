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
from threading import Event, Thread

import anyio
import httpx
import jsonschema
import pytest
import uvicorn
from mcp import Client, MCPError, StdioServerParameters
from mcp_types import TextContent

from envtune.data.bfcl import TOOL_DOCS, tool_documents
from envtune.environment.env import replay
from envtune.interop import mcp_server
from envtune.interop.mcp_server import LOOPBACK, Limits, ToolSession, domains_task, from_mcp, to_mcp, tool_server
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
        process.wait(timeout=300)


@contextmanager
def served(server, limits: Limits | None = None) -> Iterator[str]:
    """A server in a thread of this process; its address."""
    config = uvicorn.Config(mcp_server.http_app(server, limits), port=0, log_level="warning")
    runner = uvicorn.Server(config)
    thread = Thread(target=runner.run)
    thread.start()
    try:
        while not runner.started:
            assert thread.is_alive()
            time.sleep(0.05)
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

    async def freed(self, seconds: float = 300) -> None:
        """Wait until none is left."""
        with anyio.fail_after(seconds):
            while self.open:
                gc.collect()
                await anyio.sleep(0.5)


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
        for name in ("launch", "_load_scenario", "startEngine"):  # nowhere; not a tool; another domain's
            unknown = await client.call_tool(name, {})
            assert unknown.is_error and from_mcp(unknown).unknown_tool
            assert text_of(unknown) == f"Error during execution: name '{name}' is not defined"
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


@pytest.mark.parametrize(
    ("domains", "says"),
    [([], "no domains given. Known: "), (["GorillaFileSystem", "Nosuch"], "unknown domains Nosuch. Known: ")],
)
def test_unknown_domains_are_refused(domains, says):
    with pytest.raises(ValueError, match=says):
        domains_task(domains)


def test_two_clients_never_see_each_other_and_leave_nothing(by_id):
    sessions = Sessions(by_id[TASK])

    async def two():
        server = tool_server(by_id[TASK], sessions)
        async with Client(server, mode="legacy") as one, Client(server, mode="legacy") as other:
            await one.call_tool("touch", {"file_name": "mine"})
            assert "mine" in text_of(await one.call_tool("ls", {}))
            assert "mine" not in text_of(await other.call_tool("ls", {}))
            assert len(sessions.open) == 2
        await sessions.freed()

    anyio.run(two)


def test_over_http_a_session_ends_with_its_client(by_id):
    sessions = Sessions(by_id[TASK])

    async def leave(address):
        async with Client(address) as client:
            await client.call_tool("ls", {})
            assert len(sessions.open) == 1
        await sessions.freed()

    with served(tool_server(by_id[TASK], sessions), Limits(sessions=1)) as address:
        anyio.run(leave, address)
        anyio.run(leave, address)


def test_over_http_a_silent_client_loses_its_session(by_id):
    """The client stays connected, as those of the SDK do; its place and its simulators go to another."""
    sessions = Sessions(by_id[TASK])

    async def stay(address):
        async with Client(address) as silent:
            await silent.call_tool("ls", {})
            assert len(sessions.open) == 1
            await sessions.freed()
            async with Client(address) as other:
                assert not (await other.call_tool("ls", {})).is_error
                with pytest.raises(MCPError, match=r"(?i)session"):
                    await silent.call_tool("ls", {})

    with served(tool_server(by_id[TASK], sessions), Limits(sessions=1, idle_seconds=3)) as address:
        anyio.run(stay, address)


def test_no_request_stays_in_flight(by_id):
    with served(tool_server(by_id[TASK]), Limits(idle_seconds=2)) as address:
        assert httpx.get(address, headers={"accept": "text/event-stream"}).status_code == 405
        host, port = address.split("/")[2].split(":")
        with socket.create_connection((host, int(port)), timeout=300) as slow:
            slow.sendall(f"POST /mcp HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-length: 100\r\n\r\n{{".encode())
            assert slow.recv(100).startswith(b"HTTP/1.1 500")


def test_over_http_every_client_has_its_own_state(address):
    async def two():
        async with Client(address) as one, Client(address) as other:
            await one.call_tool("touch", {"file_name": "mine"})
            assert "mine" in text_of(await one.call_tool("ls", {}))
            assert "mine" not in text_of(await other.call_tool("ls", {}))

    anyio.run(two)


def test_session_limit_and_idle_time():
    with http_server("--sessions", "2", "--idle", "5") as address:
        opened = [httpx.post(address, json=INITIALIZE, headers=ACCEPT) for _ in range(3)]
        assert [answer.status_code for answer in opened] == [200, 200, 503]
        session = {"mcp-session-id": opened[0].headers["mcp-session-id"]}
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        assert httpx.post(address, json=ping, headers=ACCEPT | session).status_code == 200
        end = time.monotonic() + 120
        for _ in range(2):  # two new ones have a place once the two first have ended
            while httpx.post(address, json=INITIALIZE, headers=ACCEPT).status_code == 503:
                assert time.monotonic() < end, "no place became free"
                time.sleep(0.5)
        assert httpx.post(address, json=ping, headers=ACCEPT | session).status_code == 404


def test_large_bodies_and_foreign_hosts_are_refused(address):
    large = INITIALIZE | {"padding": "x" * Limits.body_bytes}
    assert httpx.post(address, json=large, headers=ACCEPT).status_code == 413
    assert httpx.post(address, json=INITIALIZE, headers=ACCEPT | {"host": "evil.example"}).status_code == 421
    with pytest.raises(ValueError, match="above 0"):
        Limits(sessions=0)


def test_no_request_without_a_session(address):
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ls", "arguments": {}}}
    assert httpx.post(address, json=call, headers=ACCEPT).status_code == 400
    version = "2026-07-28"
    meta = {"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}}
    modern = {**call, "params": call["params"] | {"_meta": meta}}
    names = {"mcp-protocol-version": version, "mcp-method": "tools/call", "mcp-name": "ls"}
    answer = httpx.post(address, json=modern, headers=ACCEPT | names)
    assert answer.json()["error"]["message"].startswith("these tools keep state per session"), answer.text


def test_a_client_that_disappears_mid_call(by_id):
    """The socket closes while its call runs: the call ends, its session keeps its state, others see nothing of it."""
    running, gone = Event(), Event()

    class Slow(ToolSession):
        def call(self, call: ToolCall) -> ToolResult:
            if call.arguments == {"file_name": "late"}:
                running.set()
                assert gone.wait(300)
            return super().call(call)

    def message(name: str, **arguments: str) -> dict:
        return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}

    with served(tool_server(by_id[TASK], lambda: Slow(by_id[TASK]))) as address:

        def begin(file_name: str) -> dict[str, str]:
            opened = httpx.post(address, json=INITIALIZE, headers=ACCEPT)
            headers = ACCEPT | {"mcp-session-id": opened.headers["mcp-session-id"]}
            assert httpx.post(address, json=message("touch", file_name=file_name), headers=headers).status_code == 200
            return headers

        mine, other = begin("before"), begin("other")
        host, port = address.split("/")[2].split(":")
        body = json.dumps(message("touch", file_name="late")).encode()
        lines = {"host": f"{host}:{port}", "content-type": "application/json", "content-length": len(body)} | mine
        head = "POST /mcp HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
        for cut in (len(body) // 2, len(body)):
            assert not running.is_set()
            with socket.create_connection((host, int(port))) as client:
                client.sendall(head.encode() + body[:cut])
                assert cut < len(body) or running.wait(300)
        gone.set()
        anyio.run(tour, address)
        seen = [httpx.post(address, json=message("ls"), headers=headers).text for headers in (mine, other)]
        assert [[name in text for name in ("before", "late", "other")] for text in seen] == [
            [True, True, False],
            [False, False, True],
        ]


SLOW_STDIO = """
import sys, time
from envtune.cli import main
from envtune.interop.mcp_server import ToolSession
call = ToolSession.call
def slow(self, wanted):
    if wanted.arguments == {"file_name": "late"}:
        print("running", file=sys.stderr, flush=True)
        time.sleep(1)
    return call(self, wanted)
ToolSession.call = slow
main()
"""


def test_a_stdio_client_that_disappears_ends_the_server():
    """Its pipes close while a call runs."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", SLOW_STDIO, "mcp", "--task", TASK], **pipes)
    assert process.stdin and process.stdout and process.stderr

    def send(message: dict) -> None:
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()

    def touch(number: int, name: str) -> dict:
        params = {"name": "touch", "arguments": {"file_name": name}}
        return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}

    send(INITIALIZE)
    assert json.loads(process.stdout.readline())["result"]["serverInfo"]["name"] == "envtune"
    send(touch(1, "before"))
    assert not json.loads(process.stdout.readline())["result"]["isError"]
    send(touch(2, "late"))
    assert process.stderr.readline() == b"running\n"
    process.stdin.close()
    process.stdout.close()
    assert (process.stderr.read(), process.wait(timeout=300)) == (b"", 0)
    process.stderr.close()


def test_a_port_that_cannot_be_had_is_told_before_serving(by_id, capsys):
    with socket.create_server((LOOPBACK, 0)) as taken:
        for host, port in ((LOOPBACK, taken.getsockname()[1]), ("192.0.2.1", 8000)):
            with pytest.raises(OSError, match=f"cannot serve at {host}, port {port}: "):
                mcp_server.serve_http(tool_server(by_id[TASK]), port, host)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ([], 2, "give either --task ID or --domains A,B"),
        (["--task", "multi_turn_base_999"], 1, "unknown task 'multi_turn_base_999'"),
        (["--domains", "Files"], 1, "unknown domains Files"),
        (["--domains", ","], 1, "no domains given"),
        (["--task", TASK, "--http", "99999"], 2, "65535"),
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
