"""The environment: one task, one episode, one assistant message per step.

In: the assistant's text. Out: the chat messages that follow it, and at the end an `Episode`. The protocol is the
official runner's (`inference_multi_turn_FC` in `base_handler.py`, verdict by `multi_turn_checker.py`):

- A turn ends with a message without a readable call: an answer, or a message that cannot be parsed.
- After `max_steps_per_turn` tool steps in one turn, a further message with calls is executed and ends the episode as
  forced (official limit 20, T3RL 10, the paper 5).
- After `max_steps` messages the episode ends as aborted (T3RL 30, official: no limit).
- Tools are listed in the benchmark's order, or shuffled by `tool_seed`.
- A withheld tool is handed over at the start of its turn. `reveal="recompile"` re-renders the tool list (official).
  `reveal="message"` puts the schemas into a user message, so that the tokens before it stay valid (T3RL).

Departure: the state is compared after turns with an empty ground truth as well (`Turn.state_ok`). The official checker
skips such turns, and so does `Episode.success`.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from envtune.chat import parse_reply, render_calls
from envtune.display.messages import observation_view
from envtune.display.view import shown
from envtune.environment import guards
from envtune.environment.hints import hint, hinted_text
from envtune.environment.rules import Rules, rules_of
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

HANDOVER = "I have updated some more functions you can choose from. What about now?"
"""The user's words where withheld tools are handed over (`default_prompts.py`)."""
TURN_FEEDBACK = (
    "In the last turn a tool or a value that you needed was missing: the right thing was to say so and ask for it "
    "instead of calling tools."
)
"""What precedes the user message after a turn in which the agent acted although nothing should be called.

It is true of `miss_func` and `miss_param`. In four other instances (id numbers 167 and 180 of `base` and
`long_context`) a turn expects no call although nothing is withheld. There the sentence is only nearly true.
"""


@shown(observation_view)
@dataclass(frozen=True, slots=True)
class Observation:
    """What the agent sees next."""

    messages: tuple[Message, ...]
    """Chat messages to append after the agent's own."""
    tools: tuple[JSON, ...]
    """JSON schemas of all tools now available."""
    done: bool
    recompiled: bool = False
    """The tool list changed and must be rendered again, so the tokens before this message change."""


class Tools(Protocol):
    """What runs an episode's calls: `Simulators`, or a link to some elsewhere (`interop.gym_env`)."""

    def call(self, call: ToolCall) -> RawResult:
        """Run one call. Never raises."""
        ...

    def reached(self, expected: Expected) -> bool:
        """Whether the state is the one that the ground truth leaves behind."""
        ...


class ToolUseEnv:
    """A single-use environment: `reset()`, then `step(text)` until `Observation.done`.

    Args:
        task: the instance to play.
        rules: limits and help, or a name of `PROTOCOLS`. None: the benchmark's limits, without hints. Without hints,
            results are the benchmark's, byte for byte.
        seed: with the task, the turn and the tool, decides which failures get a hint where `hint_rate` is below 1.
        simulators: makes what runs the calls of an episode.
        changes: single rules by name, such as `hints=True` or `max_steps_per_turn=10`, see `rules_of`.

    Raises:
        ValueError: a rule is out of its range.
        TypeError: there is no such rule.
    """

    def __init__(
        self,
        task: Task,
        rules: Rules | str | None = None,
        *,
        seed: int = 0,
        simulators: Callable[[Task], Tools] = Simulators,
        **changes: Any,
    ) -> None:
        self.task = task
        self.rules = rules_of(rules, **changes)
        self.seed = seed
        self._open = simulators
        self._first = self._load()

    def reset(self) -> Observation:
        """Return the first user message and the tools. What was played before is forgotten."""
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
        self._messages = 0
        self._stop: StopReason | None = None
        self._begin_turn()
        return self._user_message()

    @property
    def turn(self) -> int:
        """Index of the current turn, 0-based. After the last turn: the number of turns."""
        return len(self._turns)

    @property
    def done(self) -> bool:
        """Whether the episode has ended."""
        return self._stop is not None

    @property
    def episode(self) -> Episode:
        """The record so far. An unfinished episode counts as aborted, and its current turn as not correct."""
        turns = [*self._turns, self._close_turn(ended=False)] if self._steps else self._turns
        stop = self._stop or StopReason.ABORTED
        return Episode(
            self.task.id,
            self.task.category,
            self.task.n_turns,
            tuple(turns),
            stop,
            self.rules.hint_rate > 0,
            self.rules.turn_feedback,
        )

    def step(self, text: str) -> Observation:
        """Play one assistant message.

        Raises:
            RuntimeError: the episode is over.
            TypeError: the message is no text.
        """
        if not isinstance(text, str):
            raise TypeError(
                f"a message is text, and this is of type {type(text).__name__}. Write calls with `render_calls`"
            )
        if self.done:
            raise RuntimeError(f"the episode of task {self.task.id} is over ({self._stop}). Call reset() to play again")
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
        """Run the calls of one step. Without `text`, the step has the text that an agent would have written."""
        results = tuple([self._run(call) for call in calls])
        kind = StepKind.TOOL_OK
        for result in results:
            if result.error:
                kind = StepKind.TOOL_ERROR
        self._reached = self._goal_reached()
        if text is None:
            text = _written(calls, results) if kind is StepKind.TOOL_ERROR else render_calls(calls)
        self._steps.append(Step(kind, text, calls, results, None, self._reached))
        limit = self.rules.max_steps_per_turn
        if limit is not None and len(self._steps) > limit:
            self._stop = StopReason.STEP_LIMIT
            self._turns.append(self._close_turn(ended=False))
            self._steps = []
        self._count_message()
        return results

    def _count_message(self) -> None:
        """End the episode after the last message that the rules allow."""
        self._messages += 1
        if self._stop is None and self._messages == self.rules.max_steps:
            self._stop = StopReason.ABORTED

    def _run(self, call: ToolCall) -> ToolResult:
        raw = self._simulators.call(call)
        self._responses[raw.text] += 1
        text, advice = self._augment(call, raw)
        self._observed.append(text)
        return ToolResult(text, raw.error, advice, raw.guarded, raw.unknown_tool)

    def _augment(self, call: ToolCall, raw: RawResult) -> tuple[str, str | None]:
        """What the agent reads, and the hint in it."""
        found = None
        if self.rules.hint_rate:
            found = hint(call, raw, self._tools(), self._observed, strength=self.rules.hint_strength)
        if found is None:
            return raw.text, None
        drawn = random.Random(f"{self.seed}/{self.task.id}/{self.turn}/{call.name}").random()
        if drawn >= self.rules.hint_rate:
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
        self._count_message()

    def _begin_turn(self) -> None:
        self._user = self._user_text()
        self._observed.append(self._user)
        self._reached = False

    def _user_message(self) -> Observation:
        recompiled = self.rules.reveal == "recompile" and self.turn in self.task.withheld
        return Observation(({"role": "user", "content": self._user},), self._tools(), False, recompiled)

    def _user_text(self) -> str:
        text = self._task_text()
        acted_unasked = self._turns and self._turns[-1].abstained is False
        return f"{TURN_FEEDBACK}\n{text}" if self.rules.turn_feedback and acted_unasked else text

    def _task_text(self) -> str:
        if self.turn not in self.task.withheld:
            return self.task.user_turns[self.turn]
        if self.rules.reveal == "recompile":
            return HANDOVER
        handed_over = self.rules.ordered(self.task.withheld[self.turn], self.task.id)
        return "\n".join([*(json.dumps(tool) for tool in handed_over), HANDOVER])

    def _tools(self) -> tuple[JSON, ...]:
        return self.rules.ordered(self.task.tools_at(self.turn), self.task.id)


def replay(
    task: Task,
    turns: Sequence[Sequence[Sequence[ToolCall]]],
    rules: Rules | str | None = None,
    *,
    seed: int = 0,
    **changes: Any,
) -> Episode:
    """Play given calls without a language model.

    Args:
        task: the instance.
        turns: calls by turn and step. Each turn ends with an answer. Steps without a call are skipped, as in the
            official runner. Fewer turns than the task has: the episode counts as aborted.
        rules, seed, changes: as in `ToolUseEnv`. Without `rules`, steps have no limit, as in the official checker.

    Raises:
        ValueError: more turns than the task has, or a rule out of its range.
    """
    if len(turns) > task.n_turns:
        raise ValueError(f"{len(turns)} turns to replay, but task {task.id} has {task.n_turns}")
    env = ToolUseEnv(task, UNLIMITED if rules is None else rules, seed=seed, **changes)
    for turn in turns:
        for calls in turn:
            if calls and not env.done:
                env._perform(tuple(calls))
        if not env.done:
            env._steps.append(_SILENCE)
            env._end_turn()
    return env.episode


UNLIMITED = Rules(max_steps_per_turn=None)
_SILENCE = Step(StepKind.ANSWER, "")


def _written(calls: tuple[ToolCall, ...], results: tuple[ToolResult, ...]) -> str:
    """The message that asks for these calls. Empty where a guard found that no JSON message can."""
    try:
        for call, result in zip(calls, results, strict=True):
            if result.guarded:
                guards.measure(call.arguments)
        return render_calls(calls)
    except (guards.ExceededError, TypeError, ValueError):  # ValueError: nan or inf
        return ""
