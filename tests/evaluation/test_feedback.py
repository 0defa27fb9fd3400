"""What execution says of episodes, what two rewards say of pairs, and how far arms move from their base."""

from __future__ import annotations

import math

import pandas as pd
import pytest

import envtune
from envtune.chat import render_calls
from envtune.evaluation.frames import feedback_rates
from envtune.evaluation.seeds import base_gains
from envtune.evaluation.signal import PAIRS, agreement
from envtune.types import ToolCall


def test_feedback_rates(by_id):
    env = envtune.ToolUseEnv(by_id["multi_turn_base_0"])
    ran, failed, unknown = ToolCall("ls", {}), ToolCall("cd", {"folder": "nowhere"}), ToolCall("launch", {})
    for text in (
        render_calls([ran, failed]),
        render_calls([unknown]),
        "<tool_call>{</tool_call>",
        "<tool_call>[]</tool_call>",
    ):
        env.step(text)
    found = feedback_rates([env.episode])
    assert found.pop("execution") == pytest.approx(-0.5 - 1 - 0.8 - 1)
    expected = {"error_rate": 2 / 3, "unknown_tool_rate": 1 / 3, "invalid_json_rate": 0.25, "structure_rate": 0.25}
    assert found == pytest.approx(expected)
    assert all(math.isnan(rate) for rate in feedback_rates([]).values())


SAYS = {
    "agree": ([1, 2], [5, 9]),
    "only first": ([1, 2], [3, 3]),
    "only second": ([1, 1], [3, 2]),
    "opposed": ([1, 2], [2, 1]),
    "neither": ([1, 1], [2, 2]),
}


@pytest.mark.parametrize("says", PAIRS)
def test_what_two_rewards_say_of_a_pair(says):
    assert agreement(*SAYS[says]) == {name: float(name == says) for name in PAIRS}


def test_all_pairs_of_a_group_count():
    found = agreement([0, 1, 1], [0, 1, 2])
    assert found == pytest.approx({"agree": 2 / 3, "only second": 1 / 3, "only first": 0, "opposed": 0, "neither": 0})
    assert sum(agreement([1], [1]).values()) == 0


def test_gains_over_the_base():
    rows = [("base", None, 0.2)] + [("ppo", seed, 0.5 + seed / 10) for seed in (0, 1, 2)]
    summary = pd.DataFrame(rows, columns=["arm", "seed", "turn_accuracy"]).assign(category="all")
    (row,) = base_gains(summary, "turn_accuracy").to_dict("records")
    assert (row["arm"], row["metric"], row["seeds"]) == ("ppo", "turn_accuracy", 3)
    assert [row["base"], row["after"], row["difference"]] == pytest.approx([0.2, 0.6, 0.4])
    assert row["low"] > 0.1 and row["high"] < 0.7
