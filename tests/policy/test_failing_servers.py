"""Servers that fail or refuse: what passes is tried again, what lasts is data, and what affects all is one line."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from pathlib import Path

import pytest
from odd import TASKS, about, chat, play, policy
from scripted_server import Server, serving
from tenacity import wait_random_exponential

import envtune
from envtune.chat import parse_reply
from envtune.policy.endpoint import EndpointError, connection
from envtune.types import ToolCall, Unusable


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(connection, "BACK_OFF", wait_random_exponential(multiplier=0.001, max=0.02))


def stopped(refuse, tasks=TASKS, **options) -> str:
    """The one line with which an evaluation ends."""
    with serving(refuse=refuse) as server, pytest.raises(EndpointError) as caught:
        play(server, tasks, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Failures.


@pytest.mark.parametrize(
    "fault",
    [
        (200, {}, '{"error": {"message": "worker died"}}'),
        (200, {}, "<html>gateway</html>"),
        (200, {}, '{"choices": []}'),
        (200, {}, "[" * 100_000),
        (529, {}, "overloaded"),
        "drop",
        "torn",
    ],
)
def test_what_passes_is_tried_again(fault):
    with serving(fault=lambda number: fault if number % 3 == 1 else None) as server:
        result = play(server)
    assert (result.accuracy, result.unusable) == (1, {})


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ((500, {}, "CUDA assert"), Unusable.REFUSED),
        ((200, {}, '{"error": "oops"}'), Unusable.REFUSED),
        ((400, {}, "content management policy"), Unusable.REFUSED),
        ((403, {}, "flagged"), Unusable.REFUSED),
        ("drop", Unusable.ABORTED),
        ("hang", Unusable.ABORTED),
    ],
)
def test_one_request_that_always_fails_is_data_and_the_rest_goes_on(fault, kind, tmp_path: Path, capfd):
    path = tmp_path / "e.jsonl"
    with serving(refuse=lambda body: fault if about(3, body) else None) as server:
        result = play(server, path=path, timeout=1 if fault == "hang" else 60)
    assert [row.success for row in result.rows] == [number != 3 for number in range(8)]
    assert result.rows[3].unusable == {kind: 2}
    assert result.table().loc["base", str(kind)] == result.table().loc["all", str(kind)] == 2
    stored = json.loads(path.read_text().splitlines()[4])
    assert stored["unusable"] == {str(kind): 2}
    assert envtune.evaluation.load_result(path) == result
    told = capfd.readouterr().err
    assert f"Its message counts as `{kind}`" in told
    assert f"6.7% of 30 messages could not be used: 2 {kind}" in told


def test_requests_in_turn_are_blamed_as_requests_at_once_are():
    with serving(refuse=lambda body: (500, {}, "CUDA assert") if about(3, body) else None) as server:
        result = play(server, concurrency=1)
    assert [row.success for row in result.rows] == [number != 3 for number in range(8)]


def test_a_refused_request_alone_is_data():
    """As at a resume, where nothing else is left to play."""
    with serving(refuse=lambda body: (400, {}, "policy") if about(3, body) else None) as server:
        result = play(server, TASKS[3:4])
    assert result.unusable == {Unusable.REFUSED: 2}


def test_an_outage_is_waited_out_and_no_request_is_blamed(capfd, monkeypatch):
    monkeypatch.setattr(connection, "NOTICE", 0.05)
    with serving(fault=lambda number: (500, {}, "restarting") if 9 < number < 90 else None) as server:
        result = play(server)
    assert (result.accuracy, result.unusable) == (1, {})
    told = capfd.readouterr().err
    assert re.search(r"no answer from http://\S+ for 0.05 s \(500: restarting\)\. Trying again for 20 s", told)
    assert told.count("answers again") == 1


def test_a_refusal_in_an_outage_is_not_the_end():
    def fault(number):
        return (400, {}, "no such worker") if number == 9 else (500, {}, "restarting") if 9 < number < 60 else None

    with serving(fault=fault) as server:
        result = play(server)
    assert (result.accuracy, result.unusable) == (1, {})


def test_a_server_that_is_down_says_so_soon_and_is_waited_for(capfd, monkeypatch):
    monkeypatch.setattr(connection, "NOTICE", 0.05)
    with serving() as server:
        agent = policy(server)
        agent.reply([chat()])
        port = server.server_address[1]
    told = threading.Event()
    monkeypatch.setattr(connection, "tell", lambda line: (print(line, flush=True), told.set()))
    found: list = []
    asking = threading.Thread(target=lambda: found.extend(agent.reply([chat(5)])))
    asking.start()
    assert told.wait(30)
    again = Server()
    with again:
        again.socket.close()
        again.socket = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=again.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        asking.join(60)
        again.shutdown()
    assert parse_reply(found[0]).calls == (ToolCall("mkdir", {"dir_name": "d50"}),)
    assert "cannot be reached" in capfd.readouterr().out


def test_a_server_that_stays_away_ends_the_evaluation_in_one_line(tmp_path: Path):
    down = threading.Event()
    with serving(fault=lambda number: (503, {}, "gone") if down.is_set() or number > 20 else None) as server:
        with pytest.raises(EndpointError, match=r"failed for 0.3 s, last with 503: gone"):
            play(server, path=tmp_path / "e.jsonl", patience=0.3)
        server.fault = lambda number: None
        assert play(server, path=tmp_path / "e.jsonl").accuracy == 1


# Refusals of everything.


@pytest.mark.parametrize(
    ("status", "words", "way_out"),
    [
        (401, "bad key", "set the environment variable ENVTUNE_API_KEY"),
        (403, "your country is blocked", "If the key is the reason"),
        (404, "no such model", "lists its models"),
        (400, '"auto" tool choice requires --tool-call-parser', "--enable-auto-tool-choice --tool-call-parser hermes"),
        (400, "Unsupported value: 'temperature' does not support 0.0", "--temperature none"),
        (400, "max_tokens is too large: 4096. It supports at most 2048 completion tokens", "--message-tokens N"),
        (422, "this template does not support tools", "--tokenizer"),
        (400, "enable_thinking must be set to false", "--body"),
        (402, "insufficient credits", "no credit"),
        (429, "insufficient_quota", "no credit"),
    ],
)
def test_if_all_is_refused_the_servers_words_and_the_option_are_said(status: int, words: str, way_out: str):
    for tasks in (TASKS, TASKS[:1]):
        line = stopped(lambda body: (status, {}, words), tasks)
        assert words in line
        assert str(status) in line
        assert way_out in line


def test_if_the_first_requests_are_refused_alike_it_stops_although_a_short_one_is_taken():
    line = stopped(lambda body: (400, {}, "odd words") if body["messages"][0]["content"] != "Hello." else None)
    assert "odd words" in line


def test_a_redirect_says_where_to():
    line = stopped(lambda body: (307, {"Location": "https://elsewhere/v1"}, "moved"))
    assert "307" in line
    assert "moved -> https://elsewhere/v1" in line


def test_a_key_that_expires_ends_the_evaluation_and_is_not_data(tmp_path: Path):
    path = tmp_path / "e.jsonl"
    with serving(fault=lambda number: (401, {}, "expired") if number > 20 else None) as server:
        with pytest.raises(EndpointError, match="expired"):
            envtune.evaluate(policy(server), TASKS, path, batch_size=2, progress=False)
        server.fault = lambda number: None
        result = envtune.evaluate(policy(server), TASKS, path, batch_size=2, progress=False)
    assert (result.accuracy, result.unusable) == (1, {})


def test_time_between_attempts_grows(monkeypatch):
    monkeypatch.undo()
    with serving(fault=lambda number: (429, {"Retry-After": "0"}, "slow down") if number < 3 else None) as server:
        begun = time.monotonic()
        policy(server).reply([chat()])
        assert time.monotonic() - begun >= 2 * 0.25
        assert len(server.requests) == 3
