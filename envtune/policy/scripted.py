"""Agents without a language model: the reference points of every table, and the test load of the environment.

`Oracle` plays the ground truth, `Silent` never acts, and `NoisyOracle` makes the mistakes of `policy.noise` and garbles
its own text. All are pure functions of (task, turn, step) and a seed, so a resumed or a parallel run gives the same
episodes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache

from envtune.chat import render_calls
from envtune.policy.base import Chat
from envtune.policy.noise import Noise, perturb, seeded
from envtune.types import JSON, Task, ToolCall

__all__ = ["DEFAULT_NOISE", "Noise", "NoisyOracle", "Oracle", "Silent", "perturb"]

DEFAULT_NOISE = Noise()
"""About every fifth call has a mistake."""

MAX_STEPS = 20
"""The official limit of steps in a turn."""

ANSWER = "Done."
"""A scripted agent's message when it has made all calls of a turn."""


class Oracle:
    """Plays the ground truth, one call per message.

    Args:
        max_steps: most messages with calls in a turn. In longer turns (two tasks of the benchmark have one of 34
            calls) each message holds several calls. 1: one message holds all calls of a turn.

    Raises:
        ValueError: `max_steps` is below 1.
    """

    def __init__(self, max_steps: int = MAX_STEPS) -> None:
        if max_steps < 1:
            raise ValueError(f"max_steps is {max_steps}. It must be at least 1")
        self.name = "oracle"
        self.settings: JSON = {"max_steps": max_steps}
        self.max_steps = max_steps

    def reply(self, chats: Sequence[Chat]) -> list[str]:
        """The next ground-truth call of each chat, or `ANSWER` where all were made."""
        return [self._next(chat) for chat in chats]

    def _next(self, chat: Chat) -> str:
        steps = _squeeze([[call] for call in chat.task.ground_truth[chat.turn]], self.max_steps)
        return render_calls(steps[chat.step]) if chat.step < len(steps) else ANSWER


class Silent:
    """Never acts."""

    def __init__(self) -> None:
        self.name = "silent"
        self.settings: JSON = {}

    def reply(self, chats: Sequence[Chat]) -> list[str]:
        """An answer without a call, whatever was asked."""
        return [ANSWER] * len(chats)


class NoisyOracle:
    """Plays the ground truth with mistakes.

    Args:
        noise: rates of the mistakes.
        seed: of the mistakes. Every task draws its own from (seed, task id).
    """

    def __init__(self, noise: Noise = DEFAULT_NOISE, seed: int = 0) -> None:
        self.name = "noisy"
        self.settings: JSON = {**asdict(noise), "seed": seed}
        self.noise = noise
        self.seed = seed

    def reply(self, chats: Sequence[Chat]) -> list[str]:
        """The next message of each chat's script, or `ANSWER` where it has ended."""
        return [self._next(chat) for chat in chats]

    def _next(self, chat: Chat) -> str:
        steps = _script(chat.task, self.noise, self.seed)[chat.turn]
        return steps[chat.step] if chat.step < len(steps) else ANSWER


@lru_cache(maxsize=1024)
def _script(task: Task, noise: Noise, seed: int) -> list[list[str]]:
    """Messages by turn and step."""
    rng = seeded(task, seed, "text")
    turns = [_squeeze(turn, MAX_STEPS) for turn in perturb(task, noise, seed)]
    return [[_garble(render_calls(calls), noise, rng) for calls in turn] for turn in turns]


def _squeeze(steps: list[list[ToolCall]], limit: int) -> list[list[ToolCall]]:
    """The same calls in at most `limit` steps. Where there are more, neighbours are merged."""
    size = max(1, math.ceil(len(steps) / limit))
    return [[call for step in steps[i : i + size] for call in step] for i in range(0, len(steps), size)]


def _garble(message: str, noise: Noise, rng: random.Random) -> str:
    """`message`, perhaps with broken JSON in its last call or cut off inside it."""
    start = message.rindex("<tool_call>") + len("<tool_call>")
    if rng.random() < noise.broken_json:
        brace = message.rindex("}")
        broken = (
            message[:brace] + message[brace + 1 :],
            message[:brace] + "," + message[brace:],
            message[:start] + message[start:].replace('"', "'", 1),
        )
        message = rng.choice(broken)
    if rng.random() < noise.cut_off:
        message = message[: rng.randrange(start, len(message))]
    return message
