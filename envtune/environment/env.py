"""The environment: one task, one episode, one assistant message per step.

In: the assistant's text. Out: the chat messages that follow from it, and at the end an `Episode`, a plain record. The
protocol is the official runner's (`base_handler.py`, `inference_multi_turn_FC`; verdict: `multi_turn_checker.py`):

- a turn ends with a message from which no call can be read: an answer, or a message that cannot be parsed;
- after `max_steps_per_turn` tool steps in one turn, a further message with calls is executed and ends the episode as
  forced (official limit 20, T3RL 10, the paper 5);
- a withheld tool is handed over at the start of its turn. `reveal="recompile"` re-renders the tool list (official);
  `reveal="message"` puts the schemas into a user message, so that the tokens before it stay valid (T3RL).

Departure: the ground truth runs once per task, in turns with an empty ground truth as well, so their state is compared
too (`Turn.state_ok`). The official checker skips such turns, and so does `Episode.success`.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from envtune.chat import parse_reply, render_calls
from envtune.environment import guards
from envtune.environment.hints import Strength, hint, hinted_text
from envtune.environment.simulator import Expected, RawResult, Simulators, ground_truth_run
from envtune.types import (
    JSON,
    Episode,
    Message,
    Step,
    StepKind,
    StopReason,
    Task,
    ToolCall,
    ToolResult,
    Turn,
)

Reveal = Literal["message", "recompile"]
HANDOVER = "I have updated some more functions you can choose from. What about now?"
"""The user's words where withheld tools are handed over (`default_prompts.py`)."""
TURN_FEEDBACK = (
    "In the last turn a tool or a value that you needed was missing: the right thing was to say so and ask for it "
    "instead of calling tools."
)
"""What precedes the user message after a turn in which the agent acted although nothing should be called.

It is true of `miss_func` and `miss_param`. In four other instances (id numbers 167 and 180 of `base` and
`long_context`) a turn expects no call although nothing is withheld; there the sentence is only nearly right.
"""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the agent sees next."""

    messages: tuple[Message, ...]
    """Chat messages to append after the agent's own."""
    tools: tuple[JSON, ...]
    """JSON schemas of all tools now available."""
    done: bool
    recompiled: bool = False
    """The tool list changed and must be rendered anew: everything before this message reads differently."""


class Tools(Protocol):
    """What an episode's calls go to: `Simulators`, or the way to some elsewhere (`interop.gym_env`)."""

    def call(self, call: ToolCall) -> RawResult:
        """Run one call; never raises."""
        ...

    def reached(self, expected: Expected) -> bool:
        """Whether the state is the one that the ground truth leaves behind."""
        ...


class ToolUseEnv:
    """A single-use environment: `reset()`, then `step(text)` until `Observation.done`.

    Args:
        task: the instance to play.
        hints: add corrections to failed results. Off, results are the benchmark's, byte for byte.
        max_steps_per_turn: tool steps allowed in one turn; None: no limit.
        reveal: how withheld tools are handed over, in a user `message` or by `recompile`d tool list.
        hint_strength: whether a hint names the one tool that resolves the failure or a short list.
        hint_rate: share of the failures that get their hint: 1 all, 0 none. Drawn once for a tool in a turn: were it
            drawn anew for every call, an agent would learn to fail again until a hint comes.
        hint_seed: which ones, together with the task, the turn and the tool.
        turn_feedback: where the agent acted in a turn that expects no call, say so before the next user message. For
            training only: this is the one place where the agent is told something about the ground truth.
        simulators: makes what the calls of an episode go to.

    Raises:
        ValueError: a setting is out of its range.
    """

    def __init__(
        self,
        task: Task,
        *,
        hints: bool = False,
        max_steps_per_turn: int | None = 20,
        reveal: Reveal = "message",
        hint_strength: Strength = Strength.ONE,
        hint_rate: float = 1.0,
        hint_seed: int = 0,
        turn_feedback: bool = False,
        simulators: Callable[[Task], Tools] = Simulators,
    ) -> None:
        if reveal not in ("message", "recompile"):
            raise ValueError(f"reveal is {reveal!r}; it must be 'message' or 'recompile'")
        if max_steps_per_turn is not None and max_steps_per_turn < 1:
            raise ValueError(f"max_steps_per_turn is {max_steps_per_turn}; it must be at least 1, or None")
        if not 0 <= hint_rate <= 1:
            raise ValueError(f"hint_rate is {hint_rate}; it must be a probability, from 0 to 1")
        self.task = task
        self.hints = hints
        self.hint_strength = Strength(hint_strength)
        self.hint_rate = hint_rate
        self.hint_seed = hint_seed
        self.turn_feedback = turn_feedback
        self.max_steps_per_turn = max_steps_per_turn
        self.reveal = reveal
        self._open = simulators
        self._first = self._load()

    def reset(self) -> Observation:
        """Return the first user message and the tools; what was played before is forgotten."""
        if self._turns or self._steps:
            self._first = self._load()
        return self._first

    def _load(self) -> Observation:
        self._simulators = self._open(self.task)
        self._expected: tuple[Expected, ...] = ground_truth_run(self.task)
        self._responses: defaultdict[str, int] = defaultdict(int)
        self._observed: list[str] = []
        self._turns: list[Turn] = []
        self._steps: list[Step] = []
        self._stop: StopReason | None = None
        self._begin_turn()
        return self._user_message()

    @property
    def turn(self) -> int:
        """Index of the turn now played, 0-based; the number of turns once all are played."""
        return len(self._turns)

    @property
    def done(self) -> bool:
        """Whether the episode has ended."""
        return self._stop is not None

    @property
    def episode(self) -> Episode:
        """The record so far. An episode still running counts as aborted, its current turn as not correct."""
        turns = [*self._turns, self._close_turn(ended=False)] if self._steps else self._turns
        stop = self._stop or StopReason.ABORTED
        return Episode(
            self.task.id,
            self.task.category,
            self.task.n_turns,
            tuple(turns),
            stop,
            self.hints,
            self.turn_feedback,
        )

    def step(self, text: str) -> Observation:
        """Play one assistant message.

        Raises:
            RuntimeError: the episode is over.
        """
        if self.done:
            raise RuntimeError(f"the episode of task {self.task.id} is over ({self._stop}); call reset() to play again")
        reply = parse_reply(text)
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be written to any file
        if reply.calls:
            return self._act(text, reply.calls)
        kind = StepKind.FORMAT_ERROR if reply.error else StepKind.ANSWER
        self._steps.append(Step(kind, text, format_error=reply.error))
        self._end_turn()
        return Observation((), self._tools(), True) if self.done else self._user_message()

    def _act(self, text: str, calls: tuple[ToolCall, ...]) -> Observation:
        results = self._perform(calls, text)
        messages = tuple(
            {"role": "tool", "name": call.name, "content": result.text}
            for call, result in zip(calls, results, strict=True)
        )
        return Observation(messages, self._tools(), self.done)

    def _perform(self, calls: tuple[ToolCall, ...], text: str | None = None) -> tuple[ToolResult, ...]:
        """Run the calls of one step; without `text`, it is what an agent would have written."""
        results = tuple([self._run(call) for call in calls])
        kind = StepKind.TOOL_OK
        for result in results:
            if result.error:
                kind = StepKind.TOOL_ERROR
        self._reached = self._goal_reached()
        if text is None:
            text = _written(calls, results) if kind is StepKind.TOOL_ERROR else render_calls(calls)
        self._steps.append(Step(kind, text, calls, results, None, self._reached))
        if self.max_steps_per_turn is not None and len(self._steps) > self.max_steps_per_turn:
            self._stop = StopReason.STEP_LIMIT
            self._turns.append(self._close_turn(ended=False))
            self._steps = []
        return results

    def _run(self, call: ToolCall) -> ToolResult:
        raw = self._simulators.call(call)
        self._responses[raw.text] += 1
        text, advice = self._augment(call, raw)
        self._observed.append(text)
        return ToolResult(text, raw.error, advice, raw.guarded, raw.unknown_tool)

    def _augment(self, call: ToolCall, raw: RawResult) -> tuple[str, str | None]:
        """What the agent reads, and the hint in it."""
        found = None
        if self.hints:
            found = hint(call, raw, self._tools(), self._observed, strength=self.hint_strength)
        if found is None:
            return raw.text, None
        drawn = random.Random(f"{self.hint_seed}/{self.task.id}/{self.turn}/{call.name}").random()
        if drawn >= self.hint_rate:
            return raw.text, None
        return hinted_text(raw.text, found), found.text

    def _goal_reached(self) -> bool:
        expected = self._expected[len(self._turns)]
        return bool(expected.counts) and self._answered(expected) and self._simulators.reached(expected)

    def _answered(self, expected: Expected) -> bool:
        """Whether the ground truth's responses are a sub-multiset of those so far."""
        return all(self._responses.get(text, 0) >= count for text, count in expected.counts)

    def _close_turn(self, ended: bool) -> Turn:
        """The turn's record. A turn that the agent did not end is never correct."""
        expected = self._expected[len(self._turns)]
        expects_calls = bool(self.task.ground_truth[len(self._turns)])
        acted = False
        for step in self._steps:
            acted = acted or bool(step.calls)
        reached = acted and self._reached
        return Turn(
            user=self._user,
            expects_calls=expects_calls,
            steps=tuple(self._steps),
            state_ok=ended and (reached or self._simulators.reached(expected)),
            response_ok=ended and (reached or ((acted or not expects_calls) and self._answered(expected))),
        )

    def _end_turn(self) -> None:
        self._turns.append(self._close_turn(ended=True))
        self._steps = []
        if len(self._turns) == self.task.n_turns:
            self._stop = StopReason.FINISHED
        else:
            self._begin_turn()

    def _begin_turn(self) -> None:
        self._user = self._user_text()
        self._observed.append(self._user)
        self._reached = False

    def _user_message(self) -> Observation:
        recompiled = self.reveal == "recompile" and self.turn in self.task.withheld
        return Observation(({"role": "user", "content": self._user},), self._tools(), False, recompiled)

    def _user_text(self) -> str:
        text = self._task_text()
        acted_unasked = self._turns and self._turns[-1].abstained is False
        return f"{TURN_FEEDBACK}\n{text}" if self.turn_feedback and acted_unasked else text

    def _task_text(self) -> str:
        if self.turn not in self.task.withheld:
            return self.task.user_turns[self.turn]
        if self.reveal == "recompile":
            return HANDOVER
        return "\n".join([*(json.dumps(tool) for tool in self.task.withheld[self.turn]), HANDOVER])

    def _tools(self) -> tuple[JSON, ...]:
        return self.task.tools_at(self.turn)


def replay(
    task: Task,
    turns: Sequence[Sequence[Sequence[ToolCall]]],
    *,
    max_steps_per_turn: int | None = None,
    hints: bool = False,
    hint_strength: Strength = Strength.ONE,
    hint_rate: float = 1.0,
    hint_seed: int = 0,
    turn_feedback: bool = False,
) -> Episode:
    """Play given calls without a language model.

    Args:
        task: the instance.
        turns: per turn, its steps; per step, its calls. Each turn ends with an answer; steps without a call are
            skipped, as the official runner skips them. Fewer turns than the task has: the episode counts as aborted.
        max_steps_per_turn: tool steps allowed in one turn; None, the default: no limit, as in the official checker.
        hints, hint_strength, hint_rate, hint_seed, turn_feedback: as in `ToolUseEnv`.

    Raises:
        ValueError: more turns than the task has.
    """
    if len(turns) > task.n_turns:
        raise ValueError(f"{len(turns)} turns to replay, but task {task.id} has {task.n_turns}")
    env = ToolUseEnv(
        task,
        max_steps_per_turn=max_steps_per_turn,
        hints=hints,
        hint_strength=hint_strength,
        hint_rate=hint_rate,
        hint_seed=hint_seed,
        turn_feedback=turn_feedback,
    )
    for turn in turns:
        for calls in turn:
            if calls and not env.done:
                env._perform(tuple(calls))
        if not env.done:
            env._steps.append(_SILENCE)
            env._end_turn()
    return env.episode


_SILENCE = Step(StepKind.ANSWER, "")


def _written(calls: tuple[ToolCall, ...], results: tuple[ToolResult, ...]) -> str:
    """The message that asks for these calls; empty where a guard found that no JSON message can."""
    try:
        for call, result in zip(calls, results, strict=True):
            if result.guarded:
                guards.measure(call.arguments)
        return render_calls(calls)
    except (guards.ExceededError, TypeError, ValueError):  # ValueError: nan or inf
        return ""
