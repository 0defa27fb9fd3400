"""What the tests of odd servers share: tasks, and ways to play them on a scripted server."""

from __future__ import annotations

import json
from pathlib import Path

import small
from scripted_server import Server

import envtune
from envtune.evaluation import Result
from envtune.policy.base import Chat
from envtune.policy.endpoint import Endpoint

TASKS = [small.task(number) for number in range(8)]


def policy(server: Server, **options) -> Endpoint:
    return Endpoint(server.url, "org/small", **{"patience": 20, **options})


def chat(number: int = 0, *more: dict) -> Chat:
    task = small.task(number)
    return Chat(task, [*envtune.ToolUseEnv(task).reset().messages, *more], task.tools)


def play(server: Server, tasks=TASKS, path: Path | None = None, **options) -> Result:
    return envtune.evaluate(policy(server, **options), tasks, path, progress=False)


def about(number: int, body: dict) -> bool:
    """Whether a request belongs to this task."""
    return f" d{number}0" in json.dumps(body["messages"])
