"""A real server, `transformers serve`, with a small model that the test builds: same replies, and it may be killed."""

from __future__ import annotations

import os
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
from envtune.evaluation import evaluate
from envtune.policy.base import Chat
from envtune.policy.endpoint import Endpoint, EndpointError
from envtune.policy.language import LanguagePolicy

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("served")]
TOKENS = 12
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
        return Endpoint(self.url, str(self.folder), message_tokens=TOKENS, patience=START, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    small.model().save_pretrained(folder)
    small.tokenizer().save_pretrained(folder)
    served = Served(folder)
    served.start()
    try:
        served.wait()
        yield served
    finally:
        served.kill()


def chats(n: int = 3) -> list[Chat]:
    tasks = [small.task(number) for number in range(n)]
    return [Chat(task, list(envtune.ToolUseEnv(task).reset().messages), task.tools) for task in tasks]


@pytest.mark.parametrize("mode", ["completions", "chat"])
def test_the_served_model_says_what_the_model_says_here(server: Served, mode: str):
    agent = server.policy(tokenizer=str(server.folder) if mode == "completions" else None)
    here = LanguagePolicy(small.model(), small.tokenizer(), message_tokens=TOKENS)
    assert agent.settings["mode"] == mode
    said, expected = agent.reply(chats()), here.reply(chats())
    if mode == "chat":  # the server trims white space
        said, expected = (["".join(text.split()) for text in texts] for texts in (said, expected))
    assert said == expected


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
