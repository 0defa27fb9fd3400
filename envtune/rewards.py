"""Rewards: pure functions of an `Episode`.

Sources: arXiv 2510.10197, section 3 (`syntax`, `progress`, and `binary` of its ablation); qwen-tool's reward table
(`execution`). Of N steps, C_format could not be parsed, C_correct ran without a failed call and C_error with one:

    syntax    = I_tool * ((N - C_format) / N + C_correct / (C_correct + C_error))         in [0, 2]
    progress  = (1 / T) * sum over the task's T turns of state_ok * response_ok           in [0, 1]
    binary    = 1 if progress is 1, else 0
    execution = sum over the steps of the table below                                     at most 10 * turns with calls

`I_tool` is 1 if any call was made. Corner cases, the same for all: a turn that was never played, or that the agent did
not end (step limit, aborted), counts 0. In a turn with empty ground truth `response_ok` is true, and `state_ok` says
whether the agent left the state unchanged. A turn that expects calls and got none is never correct, as in the official
checker. `binary` is stricter than `Episode.success` only there: the official checker does not compare the state after
an empty turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from numbers import Real
from typing import Any

from envtune.types import Episode, FormatErrorKind, Step, StepKind


class ExecutionReward(float, Enum):
    """qwen-tool's five rows, per step."""

    SUCCESS = 10.0
    """The calls ran, and with this step the turn's state and responses are, for the first time, the expected ones."""
    EXECUTED = 0.0
    """The calls ran, but the turn's goal is not yet reached. Also: the agent answered."""
    TOOL_ERROR = -0.5
    """A known tool failed at run time."""
    INVALID_JSON = -0.8
    """The call was not JSON."""
    STRUCTURE = -1.0
    """The message departed from the call format, or named a tool that does not exist."""


def syntax(episode: Episode) -> float:
    """Well-formed and executable calls, R_stage1 of the paper. 0 for an episode without any call.

    Range [0, 2]: the format and the tool term each reach 1. R_tool is 0 if no step held a call that could be parsed.
    """
    steps = episode.steps
    correct = sum(step.kind is StepKind.TOOL_OK for step in steps)
    failed = sum(step.kind is StepKind.TOOL_ERROR for step in steps)
    if correct + failed == 0:
        return 0.0
    unparsed = sum(step.kind is StepKind.FORMAT_ERROR for step in steps)
    return (len(steps) - unparsed) / len(steps) + correct / (correct + failed)


def progress(episode: Episode) -> float:
    """Share of the task's turns whose state and responses are correct, R_P of the paper. Range [0, 1]."""
    return sum(turn.correct for turn in episode.turns) / episode.n_turns


def binary(episode: Episode) -> float:
    """1 only if every turn is correct, the sparse reward of the paper's ablation."""
    return float(progress(episode) == 1.0)


def execution(episode: Episode) -> float:
    """qwen-tool's step rewards, summed over the episode."""
    return float(sum(execution_steps(episode)))


def execution_steps(episode: Episode) -> list[ExecutionReward]:
    """qwen-tool's reward of every step, in order.

    SUCCESS is given once a turn, at the first step without a failed call after which the goal holds: repeating a call
    earns nothing. A step with several calls is worth its worst call. The first answer of a turn, even a premature one,
    is worth 0: the table has no row for it.
    """
    rewards = []
    for turn in episode.turns:
        reached = False
        for step in turn.steps:
            reward = _step_reward(step, reached)
            reached = reached or reward is ExecutionReward.SUCCESS
            rewards.append(reward)
    return rewards


def _step_reward(step: Step, reached: bool) -> ExecutionReward:
    if step.format_error is not None:
        invalid = step.format_error.kind is FormatErrorKind.INVALID_JSON
        return ExecutionReward.INVALID_JSON if invalid else ExecutionReward.STRUCTURE
    if any(result.unknown_tool for result in step.results):
        return ExecutionReward.STRUCTURE
    if step.kind is StepKind.TOOL_ERROR:
        return ExecutionReward.TOOL_ERROR
    return ExecutionReward.SUCCESS if step.goal_reached and not reached else ExecutionReward.EXECUTED


REWARDS: dict[str, Callable[[Episode], float]] = {
    "syntax": syntax,
    "progress": progress,
    "binary": binary,
    "execution": execution,
}
"""Every reward by name, for stages, displays and tables. A new reward is a function above and a row here. Only
`execution` is also given step by step, which PPO needs."""


def scores(episode: Episode) -> dict[str, float]:
    """Every reward of `REWARDS`, by name.

    Raises:
        ValueError: a reward is not a finite number. The message names the reward and the task.
    """
    return {name: _checked(name, reward(episode), episode) for name, reward in REWARDS.items()}


def _checked(name: str, value: Any, episode: Episode) -> float:
    if isinstance(value, Real) and math.isfinite(value):
        return float(value)
    raise ValueError(
        f"reward {name!r} gives {value!r} for task {episode.task_id}. A reward is a finite number. Correct its "
        "function, or remove it from envtune.rewards.REWARDS"
    )
