"""The policy behind a server: what it sends, what it reads, and which failures it survives."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import small
from scripted_server import Server, said, serving
from tenacity import wait_random_exponential
from typer.testing import CliRunner

import envtune
from envtune.chat import CUT_OFF, parse_reply, render_calls
from envtune.cli import app
from envtune.policy.base import Chat
from envtune.policy.endpoint import Endpoint, EndpointError, connection
from envtune.policy.endpoint.errors import too_long
from envtune.types import ToolCall

CALLS = [ToolCall("mkdir", {"dir_name": "ä"}), ToolCall("pwd", {})]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(connection, "BACK_OFF", wait_random_exponential(multiplier=0.01, max=0.1))


def policy(server: Server | str, **options) -> Endpoint:
    url = server if isinstance(server, str) else server.url
    return Endpoint(url, "org/small", **options)


def chat(number: int = 0, *more: dict) -> Chat:
    task = small.task(number)
    return Chat(task, [*envtune.ToolUseEnv(task).reset().messages, *more], task.tools)


def reply_to(answer: dict) -> str:
    with serving(answer=lambda body: answer) as server:
        return policy(server).reply([chat()])[0]


def error_of(status: int, text: str = "no", **options) -> str:
    with serving(fault=lambda number: (status, {}, text)) as server, pytest.raises(EndpointError) as caught:
        policy(server, patience=0.2, **options).reply([chat()])
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_calls_travel_as_structures_and_arrive_as_text():
    spoken = {"role": "assistant", "content": render_calls(CALLS, "Now.")}
    results = [{"role": "tool", "name": call.name, "content": "{}"} for call in CALLS]
    with serving(answer=lambda body: said("So:", [{"name": "mkdir", "arguments": '{"dir_name": "ä"}'}])) as server:
        (text,) = policy(server, seed=3).reply([chat(0, spoken, *results)])
        sent = server.requests[0]
    assert text == render_calls(CALLS[:1], "So:")
    assert (sent["path"], sent["model"], sent["temperature"]) == ("/v1/chat/completions", "org/small", 0.0)
    assert sent["tools"] == list(small.TOOLS)
    assert "seed" not in sent
    assistant, *tools = sent["messages"][1:]
    assert assistant["content"] == "Now."
    assert [json.loads(call["function"]["arguments"]) for call in assistant["tool_calls"]] == [{"dir_name": "ä"}, {}]
    assert [message["tool_call_id"] for message in tools] == [call["id"] for call in assistant["tool_calls"]]


@pytest.mark.parametrize("arguments", ['{"dir_name": ', '{"dir_name": NaN}', "[1]", '{"a": 1, "a": 2}'])
def test_bad_arguments_are_a_format_error_not_an_exception(arguments):
    text = reply_to(said(None, [{"name": "mkdir", "arguments": arguments}]))
    assert parse_reply(text).error is not None


def test_answers_of_every_kind_are_text():
    assert reply_to(said("\ud800 Hi.")) == "? Hi."
    assert reply_to(said("<tool_call>", finish="length")) == "<tool_call>" + CUT_OFF
    assert reply_to(said(None)) == ""
    assert parse_reply(reply_to(said(None, [{"name": "pwd", "arguments": ""}]))).calls == (ToolCall("pwd", {}),)
    with pytest.raises(EndpointError, match="Check that it is a model server"):
        reply_to({"choices": []})
    with pytest.raises(EndpointError, match="Check that it is a model server"):
        reply_to({"choices": [{"text": None}]})
    assert reply_to(said([{"type": "text", "text": None}, {"type": "text", "text": "Hi."}])) == "Hi."


def test_a_cut_off_message_goes_back_without_our_mark():
    with serving() as server:
        policy(server).reply(
            [chat(0, {"role": "assistant", "content": "so" + CUT_OFF}, {"role": "user", "content": "d1"})]
        )
        assert server.requests[0]["messages"][1]["content"] == "so"
        called = render_calls(CALLS[:1]) + "and" + CUT_OFF  # nothing of it was executed, so no result follows
        policy(server).reply([chat(0, {"role": "assistant", "content": called}, {"role": "user", "content": "d1"})])
        assert server.requests[1]["messages"][1] == {"role": "assistant", "content": called.removesuffix(CUT_OFF)}


def test_sampling_has_a_seed_for_every_message():
    with serving() as server:
        sampled = policy(server, temperature=1.0, seed=1)
        sampled.reply([chat(0), chat(0), chat(1)])
        seeds = {request["messages"][0]["content"]: request["seed"] for request in server.requests}
    assert len({request["seed"] for request in server.requests}) == len(seeds) == 2
    assert sampled.settings["seed"] == 1


def test_it_works_where_a_loop_already_runs():
    async def notebook(server: Server) -> list[str]:
        return policy(server).reply([chat(7)])

    with serving() as server, ThreadPoolExecutor(1) as pool:  # a thread of its own: no other test's loop runs there
        assert pool.submit(asyncio.run, notebook(server)).result() == [
            render_calls([ToolCall("mkdir", {"dir_name": "d70"})])
        ]


def test_200_episodes_with_faults_lose_nothing_and_duplicate_nothing(tmp_path: Path):
    faults = {3: (500, {}, "oops"), 7: "drop", 11: (429, {"Retry-After": "0"}, "slow down"), 13: "torn"}
    tasks = [small.task(number, turns=1 + number % 2) for number in range(200)]

    with serving(lambda number: faults.get(number % 17), meet=32) as server:
        agent = policy(server, concurrency=32, timeout=300)
        result = envtune.evaluate(agent, tasks, tmp_path / "e.jsonl", batch_size=64, progress=False)
    assert [row.task_id for row in result.rows] == [task.id for task in tasks]
    assert result.accuracy == 1.0
    assert sum(row.steps for row in result.rows) == server.answered == 600
    assert len(server.requests) > 750
    assert server.most_busy == 32


@pytest.mark.parametrize(
    ("asked", "back_off", "waited"), [("1", 0.0, 1.0), ("0", 0.3, 0.3), ("²", 0.3, 0.3), (None, 0.3, 0.3)]
)
def test_a_server_that_asks_for_time_gets_it_and_is_never_flooded(monkeypatch, asked, back_off, waited):
    monkeypatch.setattr(connection, "BACK_OFF", lambda state: back_off)
    headers = {"Retry-After": asked} if asked else {}
    with serving(fault=lambda number: (429, headers, "slow down") if number == 1 else None) as server:
        policy(server).reply([chat()])
        first, second = server.times
    assert second - first >= waited


def test_slow_answers_are_a_time_out_and_tried_again():
    first, tried_again = iter([True]), threading.Event()

    def answer(body):
        if next(first, False):
            assert tried_again.wait(60)
        tried_again.set()
        return said("Done.")

    with serving(answer=answer) as server:
        assert policy(server, timeout=1, patience=60).reply([chat()]) == ["Done."]
        assert len(server.requests) > 1


def test_waiting_in_line_does_not_count_as_failing():
    def fault(number: int):
        time.sleep(0.3)
        return (500, {}, "oops") if number == 4 else None

    with serving(fault) as server:
        replies = policy(server, concurrency=1, patience=0.6).reply([chat(number) for number in range(5)])
        assert len(server.requests) == 6
    assert len(replies) == 5


def test_errors_that_last_are_one_line_with_the_way_out(monkeypatch):
    assert "check the address and the server" in _unreachable("http://127.0.0.1:9/v1")
    assert "check the address and the server" in _unreachable("http://no-such-host.invalid/v1")
    assert "set the environment variable ENVTUNE_API_KEY" in error_of(401)
    assert "MY_KEY" in error_of(403, key_variable="MY_KEY")
    assert "has no model 'org/small'" in error_of(404, '{"error": "model not found"}')
    assert "bad parameter: top_k" in error_of(400, "bad\n parameter: top_k")
    assert "failed for 0.2 s, last with 502: bad gateway" in error_of(502, "bad gateway")
    assert "ends in /v1" in error_of(200, "<html>")
    assert '{"detail": "no credit"}' in error_of(200, '{"detail": "no credit"}')


def _unreachable(url: str) -> str:
    with pytest.raises(EndpointError) as caught:
        policy(url).reply([chat()])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_key_is_sent_and_never_told(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("SECRET", " sk-12345\n")
    assert "sk-12345" not in error_of(400, "Bearer sk-12345 may not", key_variable="SECRET")
    with serving() as server:
        agent = policy(server, key_variable="SECRET")
        envtune.evaluate(agent, [small.task()], tmp_path / "e.jsonl", progress=False)
        assert server.requests[0]["headers"]["Authorization"] == "Bearer sk-12345"
    assert "sk-12345" not in repr(agent) + str(agent.settings) + (tmp_path / "e.jsonl").read_text()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    with serving() as server:
        policy(server).reply([chat()])
        assert "Authorization" not in server.requests[0]["headers"]


@pytest.mark.parametrize("key", ["sk-12\nsk-34", "sk-12\x7f34", "sk-12é"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_told(monkeypatch, key: str):
    monkeypatch.setenv("SECRET", key)
    with pytest.raises(ValueError, match="the key in SECRET is not one line") as caught:
        policy("http://127.0.0.1:9/v1", key_variable="SECRET")
    assert "sk-" not in str(caught.value)


OVERFLOWS = [
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
    '{"code": "context_length_exceeded"}',
    "The input (9000 tokens) is longer than the model's context length (4096 tokens).",
    "the request exceeds the available context size, try increasing it",
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
]


MORE_OVERFLOWS = [
    "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 20 `max_new_tokens`",
    "`inputs` must have less than 4095 tokens. Given: 5000",
    "Prompt has 9000 tokens, but the configured limit is 8192 tokens",
    "too many tokens: total number of tokens in the request cannot exceed 4081",
    "Invalid 'messages[1].content': string too long. Expected a string with maximum length 1048576",
]
OTHER_LIMITS = [
    "Invalid 'tools[0].function.description': string too long. Expected a string with maximum length 1024",
    "Invalid 'tools': array too long. Expected an array with maximum length 64",
    "Invalid 'messages[2].tool_calls[0].id': string too long. Expected a string with maximum length 40",
    "The tool name is too long",
    "max_tokens is too large: 100000. This model supports at most 4096 completion tokens",
]


def test_only_a_prompt_that_is_too_long_is_a_full_context():
    assert [words for words in [*OVERFLOWS, *MORE_OVERFLOWS, *OTHER_LIMITS] if too_long(words)] == [
        *OVERFLOWS,
        *MORE_OVERFLOWS,
    ]
    assert "'tools': array too long" in error_of(400, OTHER_LIMITS[1])


@pytest.mark.parametrize("words", OVERFLOWS)
def test_a_full_context_is_data(words):
    with serving(fault=lambda number: (400, {}, words)) as server:
        assert policy(server).reply([chat()]) == [CUT_OFF]
        assert [request["max_tokens"] for request in server.requests] == [4096, 1024, 256]
        result = envtune.evaluate(policy(server), [small.task()], progress=False)
    assert (result.accuracy, result.rows[0].format_errors) == (0, 2)


def test_a_nearly_full_context_leaves_a_shorter_message():
    with serving(fault=lambda number: (400, {}, OVERFLOWS[0]) if number == 1 else None) as server:
        assert policy(server).reply([chat(7)]) == [render_calls([ToolCall("mkdir", {"dir_name": "d70"})])]


@pytest.mark.parametrize("url", ["http://", "http://user:secret@host/v1", "https://host/v1?key=secret"])
def test_addresses_that_are_none(url):
    with pytest.raises(ValueError, match="write http://HOST:PORT/v1") as caught:
        envtune.load_policy(url, model="m")
    assert "secret" not in str(caught.value)


def test_load_policy_and_the_command_line(tmp_path: Path):
    with pytest.raises(ValueError, match="no model of"):
        envtune.load_policy("http://localhost:9/v1")
    with pytest.raises(ValueError, match="for a server only"):
        envtune.load_policy("oracle", model="m")
    with pytest.raises(ValueError, match="must be above 0"):
        envtune.load_policy("http://localhost:9/v1", model="m", concurrency=0)
    failed = CliRunner().invoke(app, ["evaluate", "http://127.0.0.1:9/v1", "--model", "m", "--limit", "1"])
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1].startswith("envtune: error: http://127.0.0.1:9/v1 cannot be reached")
    with serving(answer=lambda body: said("No.")) as server:
        out = tmp_path / "e.jsonl"
        arguments = ["evaluate", server.url, "--model", "m", "--limit", "2", "--protocol", "bfcl_fc", "--out", str(out)]
        assert CliRunner().invoke(app, arguments).exit_code == 0
        assert server.requests[0]["temperature"] == 0.001
    config = json.loads(out.read_text().splitlines()[0])["config"]
    assert (config["protocol"]["name"], config["settings"]["mode"]) == ("bfcl_fc", "chat")


def test_the_command_line_keeps_as_many_requests_open_as_it_is_told():
    with serving(answer=lambda body: said("No."), meet=45) as server:
        arguments = ["evaluate", server.url, "--model", "m", "--limit", "90", "--concurrency", "45"]
        assert CliRunner().invoke(app, arguments).exit_code == 0
        assert server.most_busy == 45


def test_the_sensitivity_of_a_server(tmp_path):
    """What is varied arrives at the server, and nothing else."""
    with serving(answer=lambda body: said("No.")) as server:
        options = ["--limit", "1", "--repeats", "2", "--temperature", "0.7", "--vary", "tool-order", "--vary", "seed"]
        arguments = ["sensitivity", server.url, "--model", "m", *options, "--out", str(tmp_path)]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        firsts = [body for body in server.requests if len(body["messages"]) == 1]
    assert {body["temperature"] for body in firsts} == {0.7}
    sent = {(body["seed"], tuple(tool["function"]["name"] for tool in body["tools"])) for body in firsts}
    assert len(sent) == len(firsts) == 5
    assert len({seed for seed, _ in sent}) == len({tools for _, tools in sent}) == 3
    assert len({frozenset(tools) for _, tools in sent}) == 1
    assert len(list(tmp_path.iterdir())) == 5
