"""A real server, `transformers serve`, with the tiny policy: same replies as here, and it may be killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import small

import envtune
from envtune.data import synth
from envtune.evaluation import evaluate
from envtune.policy import load_policy
from envtune.policy.base import Chat
from envtune.policy.checkpoint import load_checkpoint
from envtune.policy.endpoint import Endpoint, EndpointError
from envtune.policy.language import LanguagePolicy
from envtune.policy.tiny import WEIGHTS

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("served")]
TOKENS = 40
START = 600
"""Seconds that the server may take to start."""


class Served:
    """`transformers serve` as a child process on a free port of the loopback interface."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        command = "from transformers.cli.transformers import main; main()"
        options = ["serve", str(self.folder), "--host", "127.0.0.1", "--port", str(self.port), "--device", "cpu"]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", command, *options], stdout=log, stderr=log, env=environment
            )

    def wait(self) -> None:
        end = time.monotonic() + START
        while time.monotonic() < end and self.process.poll() is None:
            try:
                httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=5)
                return
            except httpx.TransportError:
                time.sleep(0.2)
        pytest.fail((self.folder / "server.log").read_text()[-2000:])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def policy(self, **options: object) -> Endpoint:
        options = {"message_tokens": TOKENS, "patience": START, **options}
        return Endpoint(self.url, str(self.folder), **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(shutil.copytree(WEIGHTS, tmp_path_factory.mktemp("served") / "policy"))
    served.start()
    try:
        served.wait()
        yield served
    finally:
        served.kill()


def chats(n: int = 3) -> list[Chat]:
    tasks = [small.task(number) for number in range(n)]
    return [Chat(task, list(envtune.ToolUseEnv(task).reset().messages), task.tools) for task in tasks]


@pytest.mark.parametrize(("mode", "tokens"), [("completions", TOKENS), ("completions", 4), ("chat", TOKENS)])
def test_the_served_model_says_what_the_model_says_here(server: Served, mode: str, tokens: int):
    agent = server.policy(tokenizer=str(server.folder) if mode == "completions" else None, message_tokens=tokens)
    here = LanguagePolicy(*load_checkpoint("tiny")[:2], message_tokens=tokens)
    assert agent.settings["mode"] == mode
    said, expected = agent.reply(chats()), here.reply(chats())
    if mode == "chat":  # the server trims white space
        said, expected = (["".join(text.split()) for text in texts] for texts in (said, expected))
    assert said == expected


def test_served_over_the_chat_api_it_plays_40_of_40_tasks_as_here(server: Served):
    """The server renders: the conversation holds calls as structures and null contents, as chat clients send them."""
    tasks, here = synth.load(40, "test", 0), load_policy("tiny")
    agent = Endpoint(server.url, str(server.folder), message_tokens=here.settings["message_tokens"])
    assert agent.settings["mode"] == "chat"
    served, expected = (evaluate(policy, tasks, progress=False).episodes for policy in (agent, here))
    played = [[(step.calls, step.kind, step.results) for step in episode.steps] for episode in served]
    assert played == [[(step.calls, step.kind, step.results) for step in episode.steps] for episode in expected]
    assert sum(bool(calls) for steps in played for calls, _, _ in steps) > 60


def test_an_evaluation_survives_a_killed_server(server: Served, tmp_path: Path):
    tasks = [small.task(number) for number in range(6)]
    undisturbed = evaluate(server.policy(), tasks, tmp_path / "a.jsonl", batch_size=2, progress=False)

    class Killer:
        """Kills the server while it owes the third round of answers, and starts it again."""

        agent, rounds = server.policy(), 0
        name, settings = agent.name, agent.settings

        def reply(self, chats: Sequence[Chat]) -> list[str]:
            self.rounds += 1
            if self.rounds != 3:
                return self.agent.reply(chats)
            server.process.send_signal(signal.SIGSTOP)
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(self.agent.reply, chats)
                time.sleep(1)
                assert not asked.done(), "the requests are on their way"
                server.kill()
                server.start()
                return asked.result()

    disturbed = evaluate(Killer(), tasks, tmp_path / "b.jsonl", batch_size=2, progress=False)
    assert undisturbed.notes["without top_k"] == sum(row.steps for row in undisturbed.rows), "it takes no such field"
    assert disturbed.rows == undisturbed.rows
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_another_model_is_refused_in_one_line(server: Served):
    with pytest.raises(EndpointError, match="refuses the request for model 'other'"):
        Endpoint(server.url, "other").reply(chats(1))
