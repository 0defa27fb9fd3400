"""The tools over HTTP: which clients are served, whose session gives way, and the limits."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from threading import Event

import anyio
import httpx
import httpx2
import psutil
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_clients import (
    ACCEPT,
    INITIALIZE,
    TASK,
    Sessions,
    call_message,
    freed,
    http_server,
    opening,
    served,
    session_of,
    text_of,
    tour,
)
from typer.testing import CliRunner

from envtune.cli import app
from envtune.interop import mcp_http
from envtune.interop.mcp_http import Access, Limits
from envtune.interop.mcp_server import ToolSession, tool_server
from envtune.types import ToolCall, ToolResult

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
TOKEN = "a-token-of-many-letters"


@pytest.fixture(scope="module")
def address(by_id) -> Iterator[str]:
    with served(tool_server(by_id[TASK])) as found:
        yield found


def ping(address: str, session: dict[str, str]) -> int:
    return httpx.post(address, json=PING, headers=session, timeout=60).status_code


def test_over_http(address):
    anyio.run(tour, address)
    anyio.run(tour, address, "legacy")


def test_a_session_ends_with_its_client(by_id):
    sessions = Sessions(by_id[TASK])

    async def leave(address):
        async with Client(address) as client:
            await client.call_tool("ls", {})
            assert len(sessions.open) == 1
        await freed(sessions)

    with served(tool_server(by_id[TASK], sessions), Limits(sessions=1)) as address:
        anyio.run(leave, address)
        anyio.run(leave, address)


def test_a_silent_client_loses_its_session(by_id):
    """The client stays connected, as those of the SDK do; its simulators are freed."""
    sessions = Sessions(by_id[TASK])

    async def stay(address):
        async with Client(address) as silent:
            await silent.call_tool("ls", {})
            assert len(sessions.open) == 1
            await freed(sessions)
            with pytest.raises(MCPError, match=r"(?i)session"):
                await silent.call_tool("ls", {})

    with served(tool_server(by_id[TASK], sessions), Limits(idle_seconds=1)) as address:
        anyio.run(stay, address)


def test_the_session_that_is_idle_longest_gives_way(by_id):
    sessions = Sessions(by_id[TASK])
    with served(tool_server(by_id[TASK], sessions), Limits(sessions=2)) as address:
        first, second = (session_of(opening(address)) for _ in range(2))
        for session in (first, second, first):
            assert httpx.post(address, json=call_message(1, "ls"), headers=session).status_code == 200
        assert httpx.post(address, json=PING, headers=ACCEPT).status_code == 400  # opens no session, so ends none
        third = session_of(opening(address))
        assert [ping(address, session) for session in (first, second, third)] == [200, 404, 200]
        sessions.fall_to(1)  # the second's simulators are freed
        assert httpx.delete(address, headers=first).status_code == 200
        fourth = session_of(opening(address))  # into the place of the first
        assert [ping(address, session) for session in (third, fourth)] == [200, 200]


def test_only_if_all_sessions_are_busy_a_client_is_refused(by_id):
    with served(tool_server(by_id[TASK]), Limits(sessions=1)) as address:
        session = session_of(opening(address))
        host, port = address.split("/")[2].split(":")
        lines = {"host": f"{host}:{port}", "content-length": "100", "expect": "100-continue"} | session
        head = "POST /mcp HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
        with socket.create_connection((host, int(port)), timeout=60) as busy:
            busy.sendall(head.encode())
            assert busy.recv(100).startswith(b"HTTP/1.1 100")  # the server waits for the body
            refused = opening(address)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert refused.json()["error"]["message"] == "all 1 sessions are busy. Try again in 5 s"
        end = time.monotonic() + 60
        while opening(address).status_code == 503:  # until the server has noticed that the busy client left
            assert time.monotonic() < end


def test_clients_that_never_say_goodbye(by_id):
    """None is refused, and no more simulators are kept than there are places."""
    sessions = Sessions(by_id[TASK])
    with served(tool_server(by_id[TASK], sessions), Limits(sessions=4)) as address, httpx.Client() as client:
        for _ in range(40):
            session = session_of(client.post(address, json=INITIALIZE, headers=ACCEPT))
            assert client.post(address, json=call_message(1, "ls"), headers=session).status_code == 200
        sessions.fall_to(4)
        assert len(sessions.open) == 4


@pytest.mark.slow
def test_memory_is_flat_over_2000_clients_that_never_say_goodbye():
    def talk(client: httpx.Client, address: str) -> None:
        session = session_of(client.post(address, json=INITIALIZE, headers=ACCEPT))
        assert client.post(address, json=call_message(1, "ls"), headers=session).status_code == 200

    with http_server() as address, httpx.Client(timeout=60) as client:
        listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
        (server,) = (each.pid for each in listening if each.laddr.port == httpx.URL(address).port)
        memory = []
        for _ in range(4):
            for _ in range(500):
                talk(client, address)
            memory.append(psutil.Process(server).memory_info().rss / 2**20)
    print("MiB after each 500 clients:", [round(value, 1) for value in memory])
    assert memory[-1] - memory[1] < 3  # the first thousand fill the allocator's pools


def test_no_request_stays_in_flight(by_id):
    with served(tool_server(by_id[TASK]), Limits(idle_seconds=0.5)) as address:
        assert httpx.get(address, headers={"accept": "text/event-stream"}).status_code == 405
        host, port = address.split("/")[2].split(":")
        with socket.create_connection((host, int(port)), timeout=300) as slow:
            slow.sendall(f"POST /mcp HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-length: 100\r\n\r\n{{".encode())
            assert slow.recv(100).startswith(b"HTTP/1.1 500")


def test_every_client_has_its_own_state(address):
    async def two():
        async with Client(address) as one, Client(address) as other:
            await one.call_tool("touch", {"file_name": "mine"})
            assert "mine" in text_of(await one.call_tool("ls", {}))
            assert "mine" not in text_of(await other.call_tool("ls", {}))

    anyio.run(two)


def test_large_bodies_are_refused(address):
    large = INITIALIZE | {"padding": "x" * Limits.body_bytes}
    assert httpx.post(address, json=large, headers=ACCEPT).status_code == 413
    with pytest.raises(ValueError, match="above 0"):
        Limits(sessions=0)


def test_loopback_names_are_served_with_and_without_a_port_and_others_refused(address):
    """A page under another name may point that name here (DNS rebinding)."""
    names = ["127.0.0.1", "localhost", "LocalHost", "[::1]", "127.0.0.2"]
    others = ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0", "192.168.0.7", "[::]", ""]
    for host in (form for name in names for form in (name, f"{name}:80", f"{name}:8000")):
        assert opening(address, host=host).status_code == 200, host
        for scheme in ("http", "https"):
            assert opening(address, origin=f"{scheme}://{host}").status_code == 200, host
    for host in (form for name in others for form in (name, f"{name}:80")):
        assert opening(address, host=host).status_code == 421, host
        assert opening(address, origin=f"http://{host}").status_code == 403, host
    for origin in ("null", "", "chrome-extension://abcdef", "http://[::1", "http://localhost@evil.example"):
        assert opening(address, origin=origin).status_code == 403, origin


def test_with_a_token(by_id):
    server = tool_server(by_id[TASK])
    with served(server, access=Access(TOKEN)) as address:
        wrong = ({}, {"authorization": TOKEN}, {"authorization": f"Bearer {TOKEN}x"})
        for headers in (*wrong, {"authorization": f"Basic {TOKEN}"}, {"authorization": "Bearer äöü"}):
            refused = httpx.post(
                address, json=INITIALIZE, headers={name: value.encode() for name, value in (ACCEPT | headers).items()}
            )
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer"), headers
        right = {"authorization": f"bearer {TOKEN}"}
        assert opening(address, **right).status_code == 200
        assert opening(address, **right, host="evil.example").status_code == 421
    with served(tool_server(by_id[TASK]), access=Access(TOKEN, remote=True)) as address:
        assert opening(address, **right, host="tools.example").status_code == 200
        assert opening(address, host="localhost").status_code == 401


def test_other_machines_need_a_token_end_to_end(monkeypatch):
    """A server process for every machine, and the official client."""
    monkeypatch.setenv("TOOLS_TOKEN", TOKEN)

    async def connect(address, headers):
        async with httpx2.AsyncClient(headers=headers) as client:
            await tour(streamable_http_client(address, http_client=client))

    with http_server("--allow-remote", "--token-variable", "TOOLS_TOKEN", host="0.0.0.0") as address:
        anyio.run(connect, address, {"authorization": f"Bearer {TOKEN}"})
        assert opening(address).status_code == 401


def test_a_host_that_other_machines_reach_is_refused(by_id, capsys):
    for host in ("0.0.0.0", "", "::"):
        with pytest.raises(
            ValueError, match=f"other machines can reach host '{host}'. If they should, add --allow-remote"
        ):
            mcp_http.serve_http(tool_server(by_id[TASK]), 0, host)
    assert capsys.readouterr().err == ""


def test_a_port_that_cannot_be_had_is_told_before_serving(by_id, capsys):
    with socket.create_server((mcp_http.LOOPBACK, 0)) as taken:
        for host, port in ((mcp_http.LOOPBACK, taken.getsockname()[1]), ("192.0.2.1", 8000)):
            with pytest.raises(OSError, match=f"cannot serve at {host}, port {port}: "):
                mcp_http.serve_http(tool_server(by_id[TASK]), port, host)
    assert capsys.readouterr().err == ""


def test_no_request_without_a_session(address):
    assert httpx.post(address, json=call_message(1, "ls"), headers=ACCEPT).status_code == 400
    version = "2026-07-28"
    meta = {"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}}
    modern = call_message(1, "ls")
    modern["params"]["_meta"] = meta
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

    with served(tool_server(by_id[TASK], lambda: Slow(by_id[TASK]))) as address:

        def begin(file_name: str) -> dict[str, str]:
            session = session_of(opening(address))
            touch = call_message(1, "touch", file_name=file_name)
            assert httpx.post(address, json=touch, headers=session).status_code == 200
            return session

        mine, other = begin("before"), begin("other")
        host, port = address.split("/")[2].split(":")
        body = json.dumps(call_message(1, "touch", file_name="late")).encode()
        lines = {"host": f"{host}:{port}", "content-type": "application/json", "content-length": len(body)} | mine
        head = "POST /mcp HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
        for cut in (len(body) // 2, len(body)):
            assert not running.is_set()
            with socket.create_connection((host, int(port))) as client:
                client.sendall(head.encode() + body[:cut])
                assert cut < len(body) or running.wait(300)
        gone.set()
        anyio.run(tour, address)
        seen = [httpx.post(address, json=call_message(1, "ls"), headers=headers).text for headers in (mine, other)]
        assert [[name in text for name in ("before", "late", "other")] for text in seen] == [
            [True, True, False],
            [False, False, True],
        ]


@pytest.fixture
def sigint() -> Iterator[None]:
    """`envtune mcp` changes what Ctrl-C does. Undo that here."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_wrong_usage_is_one_line(monkeypatch, sigint):
    monkeypatch.setenv("SHORT", "secret")
    monkeypatch.delenv("UNSET", raising=False)
    task, remote = ["--task", TASK], ["--task", TASK, "--http", "8000", "--host", "0.0.0.0", "--allow-remote"]
    for options, code, says in [
        ([], 2, "give either --task ID or --domains A,B"),
        (["--task", "multi_turn_base_999"], 1, "unknown task 'multi_turn_base_999'"),
        (["--domains", "Files"], 1, "unknown domains Files"),
        (["--domains", ","], 1, "no domains given"),
        ([*task, "--http", "99999"], 2, "65535"),
        ([*task, "--host", "0.0.0.0"], 2, "need --http PORT"),
        ([*task, "--token-variable", "SHORT"], 2, "need --http PORT"),
        ([*task, "--http", "8000", "--entry"], 2, "--entry is for clients that start the server"),
        (remote, 1, "--allow-remote needs a token: --token-variable NAME, an environment variable that holds it"),
        ([*remote, "--token-variable", "UNSET"], 1, "the environment variable UNSET is not set"),
        ([*remote, "--token-variable", "SHORT"], 1, "the token has 6 characters. It must have at least 16"),
    ]:
        done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["mcp", *options])
        assert (done.exit_code, done.stdout) == (code, ""), options
        assert says in done.stderr, options
