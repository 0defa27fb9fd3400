"""The records that flow through envtune: tasks, calls, results, steps, turns, episodes.

Everything here is frozen data. Nothing runs a tool, and nothing imports another module of this package. All other
modules speak in these types: `data` makes `Task`s, `environment` turns a `Task` and an agent's messages into an
`Episode`, `rewards` score an `Episode`, `evaluation` counts them.

Names follow the Berkeley Function-Calling Leaderboard (BFCL) and arXiv 2510.10197. An *episode* plays the scripted user
*turns* of one *task*. A *step* is one assistant message, which may hold several *calls*.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any

from pydantic import TypeAdapter

JSON = dict[str, Any]
Message = dict[str, Any]
"""A chat message: `role` is `system`, `user`, `assistant` or `tool`, and `content` is text."""


def id_number(task_id: str) -> int:
    """The number at the end of an id: 17 of `multi_turn_base_17`."""
    return int(task_id.rsplit("_", 1)[1])


class Category(StrEnum):
    """The four multi-turn categories of BFCL V3."""

    BASE = "base"
    """All tools and values are available from the start."""
    MISS_FUNC = "miss_func"
    """Some tools are withheld and handed over in a later turn."""
    MISS_PARAM = "miss_param"
    """The user leaves a needed value out and gives it in a later turn."""
    LONG_CONTEXT = "long_context"
    """The simulators are padded with irrelevant records."""


class StepKind(StrEnum):
    """What one assistant message turned out to be."""

    TOOL_OK = "tool_ok"
    """It held calls and all of them ran."""
    TOOL_ERROR = "tool_error"
    """It held calls and at least one of them failed."""
    FORMAT_ERROR = "format_error"
    """It tried to call a tool but could not be parsed. Nothing was executed."""
    ANSWER = "answer"
    """It held no call: the agent speaks to the user, and the turn ends."""


class FormatErrorKind(StrEnum):
    """Why a message could not be parsed (the last two rows of qwen-tool's reward table)."""

    INVALID_JSON = "invalid_json"
    """The text between the tags is not JSON."""
    STRUCTURE = "structure"
    """The tags do not match, or the JSON is not a call: no name, arguments that are not an object, too large."""


class Unusable(StrEnum):
    """Why a policy has no message for a step. The message is a format error, an empty one a plain answer."""

    REFUSED = "refused"
    """The server would not answer: a filter stopped the message, or this request fails every time."""
    CUT_OFF = "cut_off"
    """The length limit cut the message off, or the chat no longer fits into the model."""
    ABORTED = "aborted"
    """The answer broke off: the engine stopped it, it took too long, or it was too large to read."""
    EMPTY = "empty"
    """The message holds neither text nor a call."""

    @property
    def mark(self) -> str:
        """What the policy appends to such a message. An empty one needs no mark."""
        return f"<|{self}|>"


class StopReason(StrEnum):
    """Why an episode ended."""

    FINISHED = "finished"
    """Every turn was played to its end."""
    STEP_LIMIT = "step_limit"
    """A turn had more tool steps than allowed. The benchmark fails such an episode (`force_terminated`)."""
    ABORTED = "aborted"
    """The agent stopped before the last turn. The benchmark fails such an episode as well."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call, as the agent asked for it."""

    name: str
    arguments: JSON


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came back from one call. `text` is exactly what the agent reads."""

    text: str
    error: bool
    hint: str | None = None
    """The correction that the tuned environment added to `text`, if any."""
    guarded: bool = False
    """True if a guard stopped the call or withheld its result (see `environment.guards`)."""
    unknown_tool: bool = False
    """True if no tool of that name exists in the episode."""


@dataclass(frozen=True, slots=True)
class FormatError:
    """What exactly was wrong with a message that could not be parsed."""

    kind: FormatErrorKind
    message: str


@dataclass(frozen=True, slots=True)
class Step:
    """One assistant message and its results: `results[i]` answers `calls[i]`."""

    kind: StepKind
    text: str
    calls: tuple[ToolCall, ...] = ()
    results: tuple[ToolResult, ...] = ()
    format_error: FormatError | None = None
    goal_reached: bool = False
    """After this step the turn's state and responses were those of the ground truth (never true in a turn that expects
    no call)."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One user turn: what was asked, what the agent did, and how it compares with the ground truth."""

    user: str
    """The user message as the agent read it."""
    expects_calls: bool
    """False where the ground truth is empty and the agent should not act: a tool or a value is missing, or, in a few
    tasks, the request cannot be met."""
    steps: tuple[Step, ...]
    state_ok: bool
    """All public attributes of every involved simulator equal the ground truth's after this turn."""
    response_ok: bool
    """The ground truth's responses of this turn are a sub-multiset of all responses the agent got so far, and, where
    calls are expected, the agent made at least one in this turn."""

    @property
    def correct(self) -> bool:
        """`r_state * r_exec` of the paper, section 3."""
        return self.state_ok and self.response_ok

    @property
    def abstained(self) -> bool | None:
        """Whether the agent made no call. None in a turn that expects calls."""
        return None if self.expects_calls else not any(step.calls for step in self.steps)


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened in an episode, or with `+` in several."""

    steps: int = 0
    calls: int = 0
    failed_calls: int = 0
    unknown_tools: int = 0
    """Of the failed calls, those of a tool that does not exist."""
    guarded_calls: int = 0
    hints: int = 0
    format_errors: int = 0
    """Steps that could not be parsed."""
    invalid_json: int = 0
    """Of the format errors, those whose text is not JSON."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class Episode:
    """A played task. No method of it runs a tool.

    Every episode played from text survives a round trip through JSON. An episode of `replay` may not, if its calls hold
    what no JSON can (NaN, tuples, integers of 5,000 digits).
    """

    task_id: str
    category: Category
    n_turns: int
    """User turns of the task. `len(turns)` is smaller if the episode ended early."""
    turns: tuple[Turn, ...]
    stop: StopReason
    hints: bool = False
    """Whether the tool results carried hints: an episode with hints is training data, not an evaluation."""
    turn_feedback: bool = False
    """Whether the agent was told after a turn that it should not have acted in it: training data as well."""

    @property
    def number(self) -> int:
        """The id number of the task, see `Task.number`."""
        return id_number(self.task_id)

    @property
    def success(self) -> bool:
        """The official checker's verdict (`multi_turn_checker.py`): every turn that expects calls is correct."""
        return self.stop is StopReason.FINISHED and all(t.correct for t in self.turns if t.expects_calls)

    @property
    def strict_success(self) -> bool:
        """`success`, and the agent made no call in any turn that expects none.

        BFCL has a function for this (`multi_turn_irrelevance_checker`) that its runner never calls.
        """
        return self.success and all(t.abstained is not False for t in self.turns)

    @property
    def steps(self) -> list[Step]:
        """All steps of all turns, in order."""
        return [step for turn in self.turns for step in turn.steps]

    @property
    def counts(self) -> Counts:
        """Steps, calls, and how many of them failed in which way."""
        steps = self.steps
        results = [result for step in steps for result in step.results]
        errors = [step.format_error.kind for step in steps if step.format_error is not None]
        return Counts(
            steps=len(steps),
            calls=len(results),
            failed_calls=sum(result.error for result in results),
            unknown_tools=sum(result.unknown_tool for result in results),
            guarded_calls=sum(result.guarded for result in results),
            hints=sum(result.hint is not None for result in results),
            format_errors=sum(step.kind is StepKind.FORMAT_ERROR for step in steps),
            invalid_json=errors.count(FormatErrorKind.INVALID_JSON),
        )

    @property
    def calls(self) -> list[list[list[ToolCall]]]:
        """The calls by turn and step, without steps that made no call. `envtune.replay` takes them."""
        return [[list(step.calls) for step in turn.steps if step.calls] for turn in self.turns]

    def to_json(self) -> str:
        """One line of JSON."""
        return _episode_adapter().dump_json(self).decode()

    @staticmethod
    def from_json(text: str | bytes) -> Episode:
        """The episode that `to_json` wrote.

        Raises:
            pydantic.ValidationError: the text is not such an episode. The message names the field.
        """
        return _episode_adapter().validate_json(text)


@cache
def _episode_adapter() -> TypeAdapter[Episode]:
    return TypeAdapter(Episode)


@dataclass(frozen=True, eq=False)
class Task:
    """One instance: scripted user turns, the simulators' initial state and the ground truth.

    Compared and hashed by identity, so a task can be the key of a cache.
    """

    id: str
    category: Category
    involved_classes: tuple[str, ...]
    """Simulator classes, in the benchmark's order: where two define the same method, the later one wins."""
    initial_config: JSON
    """Per simulator class, the scenario that `_load_scenario` reads."""
    user_turns: tuple[str, ...]
    """The user's message of each turn. Empty where withheld tools are handed over."""
    ground_truth: tuple[tuple[ToolCall, ...], ...]
    """Per turn, the calls that solve it. Empty where the agent should not act."""
    tools: tuple[JSON, ...]
    """JSON schemas (OpenAI style) of the tools available from the first turn on."""
    withheld: dict[int, tuple[JSON, ...]] = field(default_factory=dict)
    """Turn index -> schemas of the tools handed over at the start of that turn."""
    excluded_functions: tuple[str, ...] = ()
    """The data's `excluded_function`. The official runner never reads it, so neither does the environment. A procedural
    task lists the functions of its simulators that `tools` does not offer."""
    kinds: tuple[str, ...] = ()
    """Per turn, the kind of request of a procedural task (`data.synth`). Empty for the benchmark."""

    def __post_init__(self) -> None:
        if len(self.user_turns) != len(self.ground_truth):
            raise ValueError(
                f"task {self.id}: {len(self.user_turns)} user turns but {len(self.ground_truth)} ground-truth turns"
            )
        if self.kinds and len(self.kinds) != len(self.user_turns):
            raise ValueError(f"task {self.id}: {len(self.user_turns)} user turns but {len(self.kinds)} kinds")

    @property
    def n_turns(self) -> int:
        """Number of user turns, 1 to 8."""
        return len(self.user_turns)

    @property
    def number(self) -> int:
        """The id number. The four categories share it, so splits and bootstraps go by it."""
        return id_number(self.id)

    @property
    def long_context(self) -> bool:
        """Whether the simulators are padded with irrelevant records."""
        return self.category is Category.LONG_CONTEXT

    def tools_at(self, turn: int) -> tuple[JSON, ...]:
        """Schemas of the tools available in turn `turn` (0-based), in the order of the official runner."""
        if not self.withheld:
            return self.tools
        handed_over = (tool for t in sorted(self.withheld) if t <= turn for tool in self.withheld[t])
        return (*self.tools, *handed_over)
