"""The numbers of a step, on two episodes that are short enough to count."""

from __future__ import annotations

from dataclasses import replace

import pytest
import small

from envtune.chat import render_calls
from envtune.environment import ToolUseEnv
from envtune.rewards import REWARDS
from envtune.training import metrics
from envtune.training.rollout import Rollout
from envtune.types import Category, Task, ToolCall

TASK = replace(small.task(), kinds=("touch", "touch"))
WAITING = replace(TASK, category=Category.MISS_PARAM, kinds=("wait", "touch"), ground_truth=((), TASK.ground_truth[1]))


def played(task: Task, messages: list[str], mask: list[int], **limits: int | bool) -> Rollout:
    env = ToolUseEnv(task)
    for message in messages:
        env.step(message)
    rewards = {name: REWARDS[name](env.episode) for name in ("progress", "binary", "execution")}
    cut, out = int(limits.get("cut", 0)), bool(limits.get("out_of_room", False))
    return Rollout([1], [1] * len(mask), mask, [0.0] * len(mask), env.episode, rewards, cut, out)


def test_the_numbers_of_two_episodes():
    first, second = (render_calls(calls) for calls in TASK.ground_truth)
    unknown = render_calls([ToolCall("nothing_like_it", {})])
    solved = played(TASK, [first, "Done.", unknown, second, "Done."], [1, 1, 0, 1])
    lost = played(WAITING, ["Which name?", "<tool_call>\n{\n</tool_call>"], [1, 0], cut=1, out_of_room=True)
    numbers = metrics.measure([metrics.summary(solved, TASK), metrics.summary(lost, WAITING)])
    assert numbers == pytest.approx(
        {
            "progress": (1 + 0.5) / 2,
            "task_accuracy": 1 / 2,
            "task_accuracy/base": 1.0,
            "task_accuracy/miss_param": 0.0,
            "kind/touch": 2 / 3,
            "kind/wait": 1.0,
            "rewards/progress": (1 + 0.5) / 2,
            "rewards/binary": 1 / 2,
            "rewards/execution": numbers["rewards/execution"],
            "error_rate": 1 / 3,
            "unknown_tool_rate": 1 / 3,
            "format_error_rate": 1 / 7,
            "invalid_json_rate": 1 / 7,
            "abstention_rate": 1.0,
            "cut_rate": 1 / 7,
            "calls_per_turn": 3 / 4,
            "steps_per_turn": 7 / 4,
            "hints": 0.0,
            "out_of_room": 1 / 2,
            "tokens/sampled": 4.0,
            "tokens/environment": 2.0,
            "tokens/episode": 3.0,
        }
    )
    assert numbers["rewards/execution"] == (solved.rewards["execution"] + lost.rewards["execution"]) / 2


def test_rates_without_a_denominator_are_absent():
    silent = played(TASK, ["Done.", "Done."], [1])
    numbers = metrics.measure([metrics.summary(silent, TASK)])
    assert not {"error_rate", "unknown_tool_rate", "abstention_rate"} & numbers.keys()
    assert numbers["calls_per_turn"] == 0


def test_turns_that_were_not_reached_are_wrong():
    begun = played(TASK, [render_calls(TASK.ground_truth[0]), "Done."], [1])
    assert metrics.measure([metrics.summary(begun, TASK)])["kind/touch"] == 1 / 2
