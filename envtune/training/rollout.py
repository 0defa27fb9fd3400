"""Episodes as training data: token ids, which of them the policy sampled, and the rewards.

In: tasks, rules, token limits, and a backend that samples messages. Out: one `Rollout` per task, in order. Sampled ids
go from the backend to the loss unchanged. The environment's messages are appended as tokens (`policy.tokens`). For
every rollout

    len(completion_ids) == len(env_mask) == len(logprobs), and env_mask is 1 exactly on sampled tokens,

and the completion begins and ends with a sampled token, because nobody reads what the environment says after the last
message. Episodes start and end at different times. A free place goes to the next task.

Lengths (verl's name in brackets): `message_tokens` bounds one assistant message, `episode_tokens` all that follows the
prompt, sampled or not [max_response_length]. A message that either cuts off is a format error, and none of it is
executed (`chat.CUT_OFF`). An episode without room for another message stops and counts as aborted.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from envtune.environment import Observation, ToolUseEnv
from envtune.environment.rules import Rules
from envtune.policy.generate import Row, Sampler
from envtune.policy.language import stop_ids_of
from envtune.policy.tokens import ChatTokens
from envtune.rewards import scores
from envtune.training.curriculum import Limits
from envtune.types import Episode, StopReason, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Backend(Protocol):
    """What samples messages: `policy.generate.Sampler`, or an engine that generates message by message."""

    @property
    def max_length(self) -> int:
        """Longest conversation the model reads."""
        ...

    def open(self, ids: Sequence[int], room: int, seed: str | int = 0) -> Row:
        """Start a conversation that writes at most `room` tokens next."""
        ...

    def feed(self, row: Row, ids: Sequence[int], room: int) -> None:
        """Continue a conversation whose message has ended."""
        ...

    def close(self, row: Row) -> None:
        """End a conversation."""
        ...

    def run(self) -> list[Row]:
        """Sample until at least one message has ended. Returns the rows whose message has."""
        ...


@dataclass(frozen=True)
class Rollout:
    """One played episode as the trainer needs it."""

    prompt_ids: list[int]
    completion_ids: list[int]
    """All tokens after the prompt."""
    env_mask: list[int]
    """1 where the policy sampled the token, 0 where the environment wrote it."""
    logprobs: list[float]
    """Log-probability of every sampled token at the time of sampling. 0 elsewhere."""
    episode: Episode
    rewards: dict[str, float]
    """Every reward of `rewards.REWARDS`."""
    cut_messages: int
    """Messages cut off by a length limit."""
    out_of_room: bool
    """The episode ended because `episode_tokens`, `max_steps` or the model's length was reached."""


@dataclass
class Clock:
    """Seconds of wall time by phase, added up."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin


@dataclass
class _Playing:
    """An episode in flight."""

    index: int
    env: ToolUseEnv
    prompt_ids: list[int]
    completion: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    cut_messages: int = 0

    def append(self, ids: Sequence[int], logprobs: Sequence[float] | None) -> None:
        """Add sampled tokens with their log-probabilities, or the environment's with None."""
        self.completion += ids
        self.mask += [int(logprobs is not None)] * len(ids)
        self.logprobs += [0.0] * len(ids) if logprobs is None else logprobs

    def record(self) -> Rollout:
        episode = self.env.episode
        return Rollout(
            self.prompt_ids,
            self.completion,
            self.mask,
            self.logprobs,
            episode,
            scores(episode),
            self.cut_messages,
            episode.stop is StopReason.ABORTED,
        )


def rollout(
    backend: Backend,
    tokens: ChatTokens,
    tasks: Sequence[Task],
    rules: Rules,
    limits: Limits,
    seeds: Sequence[str],
    *,
    max_rows: int = 64,
    clock: Clock | None = None,
) -> list[Rollout]:
    """Play every task once. `tasks` may hold a task several times (the rollouts of its group).

    Args:
        backend: samples messages, at its own temperature.
        tokens: renders them.
        tasks: what to play.
        rules: limits on steps, and how the environment helps.
        limits: on tokens.
        seeds: one per task, for its sampling and its hints.
        max_rows: episodes in flight at once.
        clock: adds the seconds spent in the `environment`.

    Raises:
        ValueError: the prompt of a task does not fit into the model, or a reward is not a finite number.
    """
    player = _Player(backend, tokens, rules, limits, clock or Clock())
    waiting = iter(zip(range(len(tasks)), tasks, seeds, strict=True))
    while True:
        while len(player.playing) < max_rows and (following := next(waiting, None)) is not None:
            player.start(*following)
        if not player.playing:
            return [player.finished[index] for index in range(len(tasks))]
        for row in backend.run():
            player.advance(row)


def play(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[Task],
    rules: Rules,
    limits: Limits,
    *,
    seed: str | int = 0,
    max_rows: int = 64,
    clock: Clock | None = None,
) -> list[Rollout]:
    """`rollout` with a transformers model that keeps its cache. The i-th task is seeded by `seed` and i."""
    tokens = ChatTokens(tokenizer, stop_ids_of(model))
    sampler = Sampler(model, tokens.stop_ids, temperature=rules.temperature or 0.0)
    seeds = [f"{seed}/{index}" for index in range(len(tasks))]
    return rollout(sampler, tokens, tasks, rules, limits, seeds, max_rows=max_rows, clock=clock)


def hint_seed(seed: str) -> int:
    """The seed that decides which failures of an episode get a hint."""
    return random.Random(f"hints/{seed}").getrandbits(31)


class _Player:
    """Moves episodes between the environment and the backend."""

    def __init__(self, backend: Backend, tokens: ChatTokens, rules: Rules, limits: Limits, clock: Clock) -> None:
        self.backend, self.tokens, self.rules, self.limits, self.clock = backend, tokens, rules, limits, clock
        self.playing: dict[Row, _Playing] = {}
        self.finished: dict[int, Rollout] = {}
        self._prompts: dict[Task, list[int]] = {}

    def start(self, index: int, task: Task, seed: str) -> None:
        with self.clock.phase("environment"):
            env = ToolUseEnv(task, self.rules, seed=hint_seed(seed))
            seen = env.reset()
        if task not in self._prompts:
            self._prompts[task] = self.tokens.prompt(*self.rules.opening(seen.messages, seen.tools))
        playing = _Playing(index, env, self._prompts[task])
        if (room := self._room(playing, 0)) < 1:
            raise ValueError(
                f"the prompt of task {task.id} has {len(playing.prompt_ids)} tokens and the model reads "
                f"{self.backend.max_length}. Use a model with a longer context"
            )
        self.playing[self.backend.open(playing.prompt_ids, room, seed)] = playing

    def advance(self, row: Row) -> None:
        """Play the message that `row` has written, then continue or finish."""
        playing = self.playing[row]
        playing.append(row.message, row.logprobs)
        playing.cut_messages += row.cut
        text = self.tokens.text(row.message, row.cut)
        with self.clock.phase("environment"):
            seen = playing.env.step(text)
        if seen.done or not self._go_on(row, playing, seen):
            with self.clock.phase("environment"):
                self.finished[playing.index] = playing.record()
            self.backend.close(row)
            del self.playing[row]

    def _go_on(self, row: Row, playing: _Playing, seen: Observation) -> bool:
        """Append what the environment said. False if there is no room for another message."""
        ids = self.tokens.continuation(self.rules.shown(seen.messages), row.ids[-1])
        if (room := self._room(playing, len(ids))) < 1:
            return False
        playing.append(ids, None)
        self.backend.feed(row, ids, room)
        return True

    def _room(self, playing: _Playing, new: int) -> int:
        """Tokens left for the next message after `new` tokens of the environment."""
        used = len(playing.completion) + new
        left = min(self.limits.episode_tokens, self.backend.max_length - len(playing.prompt_ids)) - used
        return min(self.limits.message_tokens, left)
