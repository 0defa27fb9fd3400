"""Evaluations against a server that does everything that servers were seen to do, at random but by a seed.

    SOAK_REQUESTS=10000 python -m pytest -n0 tests/policy/test_soak.py -s

plays until the server was asked so often. No episode may be lost, and the same seed must leave the same file.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from pathlib import Path

import pytest
import small
from scripted_server import oracle, said, serving
from tenacity import wait_random_exponential

import envtune
from envtune.chat import render_calls
from envtune.evaluation import Result
from envtune.policy.endpoint import Endpoint, connection
from envtune.policy.endpoint.request import SAMPLING
from envtune.types import Task, ToolCall, Unusable

REQUESTS = int(os.environ.get("SOAK_REQUESTS", "600"))
PASSING = {
    "500": (500, {}, "oops"),
    "502": (502, {}, "<html>bad gateway</html>"),
    "503": (503, {"Retry-After": "0"}, "loading"),
    "429": (429, {"Retry-After": "0"}, "slow down"),
    "529": (529, {}, '{"type": "overloaded_error"}'),
    "error in a 200": (200, {}, '{"error": {"message": "worker died"}}'),
    "error with a code": (200, {}, '{"error": {"code": 502, "message": "upstream"}}'),
    "a page": (200, {}, "<html>gateway</html>"),
    "no choices": (200, {}, '{"choices": []}'),
    "broken off": (200, {}, json.dumps(said("So", finish="abort"))),
    "drop": "drop",
    "torn": "torn",
}
"""May happen to any attempt."""
LASTING = {
    "filter": ((400, {}, "content management policy"), Unusable.REFUSED),
    "moderation": ((403, {}, "flagged"), Unusable.REFUSED),
    "always 500": ((500, {}, "CUDA assert"), Unusable.REFUSED),
    "always dropped": ("drop", Unusable.ABORTED),
    "huge": ("huge", Unusable.ABORTED),
    "range": ((400, {}, "Range of input length should be [1, 8192]"), Unusable.CUT_OFF),
    "context 500": ((500, {}, "Context size has been exceeded."), Unusable.CUT_OFF),
    "too large": ((413, {}, "Request Entity Too Large"), Unusable.CUT_OFF),
    "model_length": ((200, {}, json.dumps(said("So", finish="model_length"))), Unusable.CUT_OFF),
    "content_filter": ((200, {}, json.dumps(said("So", finish="content_filter"))), Unusable.REFUSED),
    "null": ((200, {}, json.dumps(said(None))), Unusable.EMPTY),
}
"""Happen to every attempt at a message."""
KNOWN = {"model", "messages", "tools", "temperature", "top_p", "max_completion_tokens"}


class Moody:
    """What the server does, by its seed, the message that is asked for and the number of the attempt."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.attempts: Counter[tuple[str, int]] = Counter()
        self.seen: Counter[str] = Counter()

    def draw(self, *what: object) -> random.Random:
        return random.Random(f"{self.seed}/{what}")

    def lasting(self, task: str, length: int) -> str | None:
        drawn = self.draw("lasting", task, length)
        return drawn.choice(sorted(LASTING)) if drawn.random() < 0.02 else None

    def refuse(self, body: dict):
        if unknown := sorted(body.keys() - KNOWN - {"max_tokens"}):
            return 422, {}, f"Unexpected fields in the request: {unknown}"
        if "max_tokens" in body:
            return 400, {}, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        for message in body["messages"]:
            if any(not re.fullmatch("[a-zA-Z0-9]{9}", call["id"]) for call in message.get("tool_calls") or ()):
                return 422, {}, "Tool call id must be a-z, A-Z, 0-9, with a length of 9"
            if message["role"] == "assistant" and message["content"] == "" and not message.get("tool_calls"):
                return 400, {}, "text content blocks must be non-empty"
        key = body["messages"][0]["content"], len(body["messages"])
        self.attempts[key] += 1
        drawn = self.draw(key, self.attempts[key])
        name = drawn.choice(sorted(PASSING)) if drawn.random() < 0.15 else self.lasting(*key)
        self.seen[name or "answer"] += 1
        return PASSING[name] if name in PASSING else LASTING[name][0] if name else None

    def answer(self, body: dict) -> dict:
        """The oracle's, in one of the forms that servers use."""
        drawn, answer = self.draw("form", body["messages"][0]["content"], len(body["messages"])), oracle(body)
        message = answer["choices"][0]["message"]
        if message["tool_calls"] and drawn.random() < 0.2:
            function = message["tool_calls"][0]["function"]
            if drawn.random() < 0.5:
                message["content"] = render_calls([ToolCall(function["name"], json.loads(function["arguments"]))])
            else:
                message["function_call"], message["tool_calls"] = function, None
        elif message["content"] and drawn.random() < 0.2:
            message["content"] = [{"type": "text", "text": message["content"]}]
        cut = len(body["messages"]) > 1 and drawn.random() < 0.05
        return {**answer, "usage": {"prompt_tokens": 3 if cut else 10_000 + len(json.dumps(body["messages"]))}}


def unusable(moody: Moody, task: Task) -> list[str]:
    """What happens to the messages of an episode: a turn is a call, its result and an answer, unless one of the two
    messages cannot be used. Then the turn ends with it.
    """
    found, length = [], 1
    for _ in range(task.n_turns):
        for _ in range(2):
            if name := moody.lasting(task.user_turns[0], length):
                found.append(name)
                break
            length += 2
        else:
            continue
        length += 2
    return found


def play(seed: int, path: Path, tasks: list, concurrency: int) -> tuple[Result, Moody, int]:
    moody = Moody(seed)
    with serving(refuse=moody.refuse, answer=moody.answer) as server:
        agent = Endpoint(server.url, "m", concurrency=concurrency, patience=60)
        result = envtune.evaluate(agent, tasks, path, batch_size=2 * concurrency, progress=False)
        return result, moody, len(server.requests)


@pytest.mark.slow
def test_no_episode_is_lost_and_the_same_seed_leaves_the_same_file(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(connection, "BACK_OFF", wait_random_exponential(multiplier=0.0005, max=0.01))
    tasks = [small.task(number) for number in range(REQUESTS // 4)]
    result, moody, asked = play(1, tmp_path / "a.jsonl", tasks, 32)
    print(f"\n{asked} requests, {len(result)} of {len(tasks)} episodes, accuracy {result.accuracy:.1%}")
    print(f"{dict(moody.seen)}\n{result.unusable} {result.notes}")

    assert asked >= REQUESTS
    assert [row.task_id for row in result.rows] == [task.id for task in tasks]
    for task, row in zip(tasks, result.rows, strict=True):
        expected = unusable(moody, task)
        assert row.unusable == Counter(LASTING[name][1] for name in expected), task.id
        assert row.success or expected
    assert set(result.notes) == {"short_prompt", *(f"without {name}" for name in SAMPLING.keys() - KNOWN)}

    whole = (tmp_path / "a.jsonl").read_bytes()
    (tmp_path / "b.jsonl").write_bytes(whole[: len(whole) // 2])  # killed, and resumed with other requests in flight
    play(1, tmp_path / "b.jsonl", tasks, 7)
    assert (tmp_path / "b.jsonl").read_bytes() == whole
    again, other, _ = play(1, tmp_path / "c.jsonl", tasks, 3)
    assert (tmp_path / "c.jsonl").read_bytes() == whole
    assert again == result
    if REQUESTS >= 10_000:
        assert set(moody.seen) == {"answer", *PASSING, *LASTING} == set(other.seen)
