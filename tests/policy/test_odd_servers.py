"""Servers as they are: requests in the form that each takes, answers in any form, prompts that are cut, options."""

from __future__ import annotations

import copy
import json
import math
import re
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import small
from odd import TASKS, about, chat, play, policy
from scripted_server import oracle, said, serving
from tenacity import wait_random_exponential
from typer.testing import CliRunner

from envtune.chat import CUT_OFF, call_block, parse_reply, render_calls, unusable
from envtune.cli import app
from envtune.policy.endpoint import Endpoint, EndpointError, connection
from envtune.policy.endpoint.request import SAMPLING
from envtune.types import ToolCall, Unusable


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(connection, "BACK_OFF", wait_random_exponential(multiplier=0.001, max=0.02))


def reply_to(message: dict, finish: str = "stop") -> str:
    answer = {"choices": [{"message": message, "finish_reason": finish}]}
    with serving(answer=lambda body: answer) as server:
        return policy(server).reply([chat()])[0]


# Requests in the form that a server takes.


def strict(body: dict):
    """Refuses empty messages, and call ids other than 9 letters and digits."""
    for message in body["messages"]:
        if message["role"] == "assistant" and not message.get("tool_calls") and not (message["content"] or "").strip():
            return 400, {}, "messages: text content blocks must be non-empty"
        if any(not re.fullmatch("[a-zA-Z0-9]{9}", call["id"]) for call in message.get("tool_calls") or ()):
            return 422, {}, "Tool call id has to be defined, must be a-z, A-Z, 0-9, with a length of 9"
    return None


def test_strict_servers_are_sent_no_empty_message_and_ids_that_they_take(tmp_path: Path):
    def answer(body):
        return said("") if about(3, body) and len(body["messages"]) == 1 else oracle(body)

    with serving(answer=answer, refuse=strict) as server:
        result = play(server)
        asked = [request for request in server.requests if about(3, request) and len(request["messages"]) == 3]
    assert [row.success for row in result.rows] == [number != 3 for number in range(8)]
    assert result.unusable == {Unusable.EMPTY: 1}
    assert [request["messages"][1]["content"] for request in asked] == ["", "..."]


def test_empty_messages_are_sent_as_they_are_where_a_server_takes_them():
    with serving(answer=lambda body: said("")) as server:
        play(server, TASKS[:1])
        assert [message["content"] for message in server.requests[1]["messages"]][1] == ""


def test_a_server_that_wants_text_in_every_message_gets_some():
    def refuse(body):
        said_nothing = [m for m in body["messages"] if m["role"] == "assistant" and not m["content"]]
        return (400, {}, "content must be a non-empty string") if said_nothing else None

    with serving(refuse=refuse) as server:
        result = play(server)
    assert (result.accuracy, result.unusable) == (1, {})


@pytest.mark.parametrize("words", ["Extra inputs are not permitted: 'messages[2].name'", "('name' was unexpected)"])
def test_results_go_without_a_name_where_a_server_takes_none(words: str):
    def refuse(body):
        return (422, {}, words) if any("name" in message for message in body["messages"]) else None

    with serving(refuse=refuse) as server:
        result = play(server)
        refused = sum(any("name" in message for message in request["messages"]) for request in server.requests)
    assert (result.accuracy, result.unusable) == (1, {})
    assert refused <= 8, "once at most in each chat, until it is known"


def test_call_ids_are_unique_in_a_chat():
    with serving() as server:
        play(server, TASKS[:1])
        ids = [call["id"] for m in server.requests[-1]["messages"] for call in m.get("tool_calls") or ()]
    assert len(set(ids)) == len(ids) == 2


def test_max_completion_tokens_is_found_out():
    def refuse(body):
        words = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        return (400, {}, words) if "max_tokens" in body else None

    with serving(refuse=refuse) as server:
        assert play(server, message_tokens=77).accuracy == 1
        late = server.requests[-1]
    assert (late["max_completion_tokens"], "max_tokens" in late) == (77, False)


@pytest.mark.parametrize("words", ["Unexpected fields in the request: {fields}", "Invalid request."])
def test_fields_that_a_server_refuses_are_left_out_and_noted(words: str, capfd):
    known = {"model", "messages", "tools", "temperature", "top_p", "max_tokens"}

    def refuse(body):
        return (422, {}, words.format(fields=sorted(body.keys() - known))) if body.keys() - known else None

    with serving(refuse=refuse) as server:
        result = play(server)
    assert result.accuracy == 1
    assert result.notes["without top_k"] == sum(row.steps for row in result.rows)
    assert ("without top_p" in result.notes) == (words == "Invalid request.")
    assert result.table().loc["all", "without top_k"] == 32
    assert "the server takes requests only without frequency_penalty, min_p" in capfd.readouterr().err


def test_a_request_that_was_refused_late_is_sent_as_another_one_was_taken():
    """The refusal of one request arrives when another has already found out what the server takes."""
    refused = threading.Semaphore(1)

    def refuse(body):
        if "top_k" in body and not refused.acquire(blocking=False):
            deadline = time.monotonic() + 30
            while not agent._met and time.monotonic() < deadline:
                time.sleep(0.005)
        return (422, {}, "Invalid request.") if "top_k" in body else None

    with serving(refuse=refuse) as server:
        agent = policy(server)
        found = agent.reply([chat(n) for n in range(4)])
    assert agent._met
    assert not any(map(unusable, found))


def test_all_sampling_parameters_are_sent_and_recorded():
    with serving() as server:
        agent = policy(server, body={"top_k": None, "chat_template_kwargs": {"enable_thinking": False}})
        agent.reply([chat()])
        sent = server.requests[0]
    wanted = {**SAMPLING, "chat_template_kwargs": {"enable_thinking": False}}
    del wanted["top_k"]
    assert agent.settings["sampling"] == wanted == {name: sent[name] for name in wanted}
    assert wanted["skip_special_tokens"] is False
    assert "top_k" not in sent
    with pytest.raises(ValueError, match=r"sets 'temperature', which the policy sets itself\. Use --temperature"):
        policy(server, body={"temperature": 1})


def test_no_temperature_is_sent_if_it_is_left_out():
    with serving() as server:
        agent = policy(server, temperature=None)
        agent.reply([chat()])
        assert "temperature" not in server.requests[0]
        assert "seed" in server.requests[0]
    assert agent.settings["temperature"] is None


# Answers.


def test_a_call_in_text_and_structure_is_made_once():
    call, other = (ToolCall("mkdir", {"dir_name": name}) for name in ("a", "b"))
    structures = [
        {"function": {"name": each.name, "arguments": json.dumps(each.arguments)}} for each in (call, call, other)
    ]
    text = reply_to({"content": render_calls([call], "So:"), "tool_calls": structures[:1]})
    assert text == render_calls([call], "So:")
    text = reply_to({"content": render_calls([call], "So:"), "tool_calls": structures})
    assert parse_reply(text).calls == (call, call, other)


@pytest.mark.parametrize("finish", ["length", "model_length", "MAX_TOKENS"])
def test_a_message_is_cut_off_in_the_words_of_any_server(finish: str):
    assert reply_to({"content": "So"}, finish) == "So" + CUT_OFF


def test_other_kinds_of_messages_have_a_name():
    assert unusable(reply_to({"content": "So"}, "content_filter")) is Unusable.REFUSED
    for nothing in (None, " \n", "<|im_end|>"):
        assert unusable(reply_to({"content": nothing})) is Unusable.EMPTY
    assert unusable(reply_to({"content": [{"type": "text", "text": "So."}]})) is None
    assert reply_to({"content": None, "refusal": "I cannot."}) == "I cannot."
    old = {"content": None, "function_call": {"name": "pwd", "arguments": "{}"}}
    assert reply_to(old) == call_block('{"name": "pwd", "arguments": {}}')


def test_an_aborted_message_is_asked_for_again_and_then_data():
    with serving(answer=lambda body: said("So", finish="abort") if about(3, body) else oracle(body)) as server:
        result = play(server)
    assert result.rows[3].unusable == {Unusable.ABORTED: 2}
    assert sum(row.success for row in result.rows) == 7


def test_an_answer_of_300_megabytes_is_not_read():
    with serving(refuse=lambda body: "huge" if about(3, body) else None) as server:
        result = play(server)
        assert server.sent < 2 * 30, "megabytes, of which sockets hold some"
    assert result.rows[3].unusable == {Unusable.ABORTED: 2}
    assert sum(row.success for row in result.rows) == 7


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "Range of input length should be [1, 8192]"),
        (500, "Context size has been exceeded."),
        (200, '{"error": {"code": 400, "message": "prompt is too long: 9000 tokens > 8192 maximum"}}'),
        (200, '{"object": "error", "code": 40303, "message": "This model\'s maximum context length is 8192 tokens."}'),
        (413, "Request Entity Too Large"),
        (429, "Request too large for model on tokens per min: Limit 10000, Requested 12000"),
    ],
)
def test_a_full_context_is_a_message_cut_off_in_any_words(status: int, words: str):
    with serving(refuse=lambda body: (status, {}, words)) as server:
        assert policy(server).reply([chat()]) == [CUT_OFF]
        assert [request["max_tokens"] for request in server.requests] == [4096, 1024, 256]


# Prompts.


def test_a_server_that_cuts_prompts_is_noticed_and_counted(capfd):
    def counted(most: int):
        def answer(body):
            length = len(json.dumps(body["messages"])) // 4
            return {**oracle(body), "usage": {"prompt_tokens": 100 + min(most, length)}}

        return answer

    for most, expected in ((60, True), (100_000, False)):
        with serving(answer=counted(most)) as server:
            result = play(server, [small.task(0, turns=8)])
        assert (result.notes.get("short_prompt", 0) > 5) == expected
        assert ("read only a part of the prompt" in capfd.readouterr().err) == expected
        assert ("short_prompt" in result.table().columns) == expected


def test_a_prompt_that_is_rendered_here_is_compared_with_the_tokenizers_count(tmp_path: Path):
    small.tokenizer().save_pretrained(tmp_path)
    for tokens, expected in ((10, 1), (10_000, 0)):
        answer = {"choices": [{"text": "So."}], "usage": {"prompt_tokens": tokens}}
        with serving(answer=lambda body, answer=answer: answer) as server:
            played = chat()
            policy(server, tokenizer=str(tmp_path)).reply([played])
        assert played.notes["short_prompt"] == expected


def test_a_template_that_ignores_tools_is_refused_before_the_first_episode(tmp_path: Path):
    def answer(body):
        shown = len(json.dumps(body["messages"])) // 4
        return {**oracle(body), "usage": {"prompt_tokens": shown}}

    with serving(answer=answer) as server, pytest.raises(EndpointError, match="ignores `tools`") as caught:
        play(server, path=tmp_path / "e.jsonl")
    assert "\n" not in str(caught.value)
    assert len((tmp_path / "e.jsonl").read_text().splitlines()) == 1, "the header alone"


def test_a_template_here_that_ignores_tools_is_refused(tmp_path: Path):
    tokenizer = copy.deepcopy(small.tokenizer())
    tokenizer.chat_template = tokenizer.chat_template.replace("tools", "no_tools")
    tokenizer.save_pretrained(tmp_path)
    with serving() as server, pytest.raises(ValueError, match="ignores `tools`"):
        play(server, tokenizer=str(tmp_path))
    assert server.requests == []


def test_a_template_here_that_refuses_a_conversation_is_data_or_one_line(tmp_path: Path):
    tokenizer = copy.deepcopy(small.tokenizer())
    spoken = tokenizer.chat_template
    tokenizer.chat_template = (
        "{% if messages|length > 1 %}{{ raise_exception('one message only') }}{% endif %}" + spoken
    )
    tokenizer.save_pretrained(tmp_path)
    with serving(answer=lambda body: {"choices": [{"text": "So."}]}) as server:
        result = play(server, tokenizer=str(tmp_path))
    assert result.unusable == {Unusable.REFUSED: 8}
    tokenizer.chat_template = "{{ raise_exception('nobody') }}" + spoken
    tokenizer.save_pretrained(tmp_path)
    with serving() as server, pytest.raises(EndpointError, match="nobody"):
        play(server, tokenizer=str(tmp_path))


def test_a_short_template_that_renders_tools_is_not_refused():
    def answer(body):
        shown = len(json.dumps(body["messages"])) // 8 + 5 * len(body.get("tools", ()))
        return {**oracle(body), "usage": {"prompt_tokens": shown}}

    with serving(answer=answer) as server:
        assert play(server).accuracy == 1


# Proxies and the command line.


def test_the_loopback_is_reached_past_any_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "socks5://127.0.0.1:9" if "all" in name.lower() else "http://127.0.0.1:9")
    with serving() as server:
        assert play(server, TASKS[:1]).accuracy == 1


def test_a_proxy_that_cannot_be_used_is_one_true_line(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"SOCKS proxy, which needs `pip install 'httpx\[socks\]'`"):
        Endpoint("http://model.example/v1", "m")
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:9")
    with pytest.raises(ValueError, match="ALL_PROXY"):
        Endpoint("http://model.example/v1", "m")


def test_the_command_line_has_the_options(tmp_path: Path):
    def run(*more: str):
        arguments = ["evaluate", server.url, "--model", "m", "--limit", "1", *more]
        return CliRunner().invoke(app, arguments)

    with serving(answer=lambda body: said("No.")) as server:
        found = run("--message-tokens", "99", "--temperature", "none", "--body", '{"top_k": null, "x": 1}')
        assert found.exit_code == 0, found.output
        sent = server.requests[0]
        assert (sent["max_tokens"], sent["x"]) == (99, 1)
        assert not {"temperature", "top_k"} & sent.keys()
        for wrong in (
            ["--body", "{"],
            ["--body", "[1]"],
            ["--body", '{"a":' * 3000],
            ["--temperature", "hot"],
            ["--temperature", "-1"],
        ):
            assert run(*wrong).exit_code == 2
        told = run("--protocol", "bfcl_fc", "--temperature", "0")
        assert told.exit_code == 1
        assert "Leave --temperature out" in told.stderr
    local = CliRunner().invoke(app, ["evaluate", "oracle", "--temperature", "none", "--limit", "1"])
    assert local.exit_code == 1
    assert "for a server only" in local.stderr


@pytest.mark.parametrize("value", [math.nan, "\ud800", {1}])
def test_a_body_that_is_no_json_is_refused_before_any_request(value):
    with pytest.raises(ValueError, match=r"body cannot be sent as JSON \("):
        Endpoint("http://localhost/v1", "m", body={"x": value})


def test_kinds_are_counted_in_the_table_only_where_they_occur():
    with serving() as server:
        columns = set(play(server).table().columns)
    assert not columns & {*map(str, Unusable), "short_prompt"}
    assert Counter(columns)["guarded_calls"] == 1
