"""The tools behind MCP: the official client in memory and over stdio, and the inspector's command line."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import jsonschema
import pytest
from mcp import Client, StdioServerParameters
from mcp_clients import COMMAND, INITIALIZE, TASK, Sessions, call_message, freed, http_server, text_of, tour
from typer.testing import CliRunner

import envtune
from envtune.cli import app
from envtune.data.bfcl import TOOL_DOCS
from envtune.environment.env import replay
from envtune.interop import mcp_server
from envtune.interop.mcp_server import ToolSession, domains_task, from_mcp, to_mcp, tool_server
from envtune.types import ToolCall, ToolResult

DOCS = Path(__file__).parents[2] / "docs" / "mcp.md"


def test_over_memory(by_id):
    anyio.run(tour, tool_server(by_id[TASK]), "legacy")


def test_over_stdio_with_the_entry_that_the_documents_name(tmp_path):
    """From a folder with modules of the same names, and without a PATH."""
    (command,) = re.findall(r"^envtune (mcp .* --entry)", DOCS.read_text(), flags=re.MULTILINE)
    before = signal.getsignal(signal.SIGINT)
    entry = json.loads(CliRunner().invoke(app, command.split()).stdout)["mcpServers"]["envtune"]
    signal.signal(signal.SIGINT, before)
    for name in ("envtune", "mcp", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    environment = {"PATH": "", "PYTHONPATH": str(Path(envtune.__file__).parents[1])}
    anyio.run(tour, StdioServerParameters(**entry, cwd=tmp_path, env=environment))


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
        await freed(sessions)

    anyio.run(two)


def test_all_answers_arrive_before_the_input_ends():
    """A client that writes everything at once and closes its end, as a shell's pipe does."""
    calls = [call_message(1, "cd", folder="document"), call_message(2, "pwd"), call_message(3, "nosuch")]
    wrong = {"jsonrpc": "2.0", "id": 4, "method": "nosuch/method"}
    lines = "".join(json.dumps(message) + "\n" for message in (INITIALIZE, *calls, wrong, call_message(5, "ls")))
    done = subprocess.run([*COMMAND, "--task", TASK], input=lines, capture_output=True, text=True, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == [0, 1, 2, 3, 4, 5]
    assert answers[2]["result"]["content"][0]["text"] == '{"current_working_directory": "/workspace/document"}'
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_ends_a_server_that_waits_for_input_without_a_word():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*COMMAND, "--task", TASK], text=True, **pipes)
    process.stdin.write(json.dumps(INITIALIZE) + "\n")
    process.stdin.flush()
    assert "serverInfo" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == -signal.SIGINT  # its input is still open
    assert process.communicate() == ("", "")


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

    send(INITIALIZE)
    assert json.loads(process.stdout.readline())["result"]["serverInfo"]["name"] == "envtune"
    send(call_message(1, "touch", file_name="before"))
    assert not json.loads(process.stdout.readline())["result"]["isError"]
    send(call_message(2, "touch", file_name="late"))
    assert process.stderr.readline() == b"running\n"
    process.stdin.close()
    process.stdout.close()
    assert (process.stderr.read(), process.wait(timeout=300)) == (b"", 0)
    process.stderr.close()


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory) -> Path:
    """The MCP inspector from npm and the TypeScript SDK that it brings, in a version for the node that is here."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("inspector")
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "@modelcontextprotocol/inspector@0.14.3"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        pytest.skip(f"npm cannot fetch the inspector: {done.stderr.strip().splitlines()[-1]}")
    return folder / "node_modules"


def run_node(*command: str) -> Any:
    """What a program printed as JSON."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_inspector_lists_and_calls(node_modules):
    inspect = (str(node_modules / ".bin" / "mcp-inspector"), "--cli", *COMMAND, "--task", TASK, "--method")
    assert len(run_node(*inspect, "tools/list")["tools"]) == 32
    call = (*inspect, "tools/call", "--tool-name", "cd", "--tool-arg")
    assert run_node(*call, "folder=document")["content"][0]["text"] == '{"current_working_directory": "document"}'
    assert run_node(*call, "folder=nowhere")["isError"] is True


TYPESCRIPT_CLIENT = """
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
const answers = [];
for (let number = 0; number < 3; number++) {
    const client = new Client({ name: "test", version: "0" });
    const requestInit = { headers: { Authorization: `Bearer ${process.argv[3]}` } };
    await client.connect(new StreamableHTTPClientTransport(new URL(process.argv[2]), { requestInit }));
    const result = await client.callTool({ name: "cd", arguments: { folder: "document" } });
    answers.push(result.content[0].text);
}
console.log(JSON.stringify(answers));
process.exit(0);
"""


@pytest.mark.slow
def test_clients_of_the_typescript_sdk_never_say_goodbye_and_are_served(node_modules, monkeypatch):
    """Three clients, a place for one."""
    script = node_modules.parent / "client.mjs"
    script.write_text(TYPESCRIPT_CLIENT)
    monkeypatch.setenv("TOOLS_TOKEN", "a-token-of-many-letters")
    with http_server("--sessions", "1", "--token-variable", "TOOLS_TOKEN") as address:
        answers = run_node("node", str(script), address, "a-token-of-many-letters")
    assert answers == ['{"current_working_directory": "document"}'] * 3
