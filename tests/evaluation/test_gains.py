"""What lost a turn, what training changed, and how sure that is over seeds: on agents whose mistakes are known."""

from __future__ import annotations

import math

import pandas as pd
import pytest

import envtune
from envtune import ToolCall
from envtune.environment.rules import Rules
from envtune.evaluation import readable
from envtune.evaluation.gains import (
    BENCHMARK,
    CHAIN,
    NOTHING,
    SINGLE,
    asked,
    changed,
    gains,
    most_changed,
    scores,
    turn_frame,
)
from envtune.evaluation.mistakes import Mistake, lost_by
from envtune.evaluation.seeds import arm_differences, arm_means, seed_mean
from envtune.evaluation.side_by_side import TaskSet, evaluate_all
from envtune.types import Category

TASKS = envtune.load_tasks("synth", n=24, split="val")


def played(policy):
    return envtune.evaluate(envtune.load_policy(policy), TASKS, progress=False)


@pytest.fixture(scope="module")
def oracle():
    return played("oracle")


@pytest.fixture(scope="module")
def silent():
    return played("silent")


def test_the_oracle_loses_nothing_and_the_silent_agent_by_silence(oracle, silent):
    right = turn_frame(oracle, TASKS)
    assert right.right.all()
    assert right.mistake.isna().all()
    wrong = turn_frame(silent, TASKS)
    due = wrong[wrong.request != NOTHING]
    assert not due.right.any()
    assert set(due.mistake) == {Mistake.NO_CALL, Mistake.EARLIER}
    assert len(wrong) == sum(task.n_turns for task in TASKS)


def test_each_mistake_is_named(tasks):
    task = next(t for t in tasks if t.category == "base" and len(t.ground_truth[0]) > 1 and t.n_turns > 1)
    truth = [[[call] for call in turn] for turn in task.ground_truth]

    def first(calls):
        return lost_by(task, envtune.replay(task, [calls, *truth[1:]]), 0)

    assert first(truth[0]) is None
    assert first([]) is Mistake.NO_CALL
    assert first(truth[0][:1]) is Mistake.MISSING_TOOL
    call = task.ground_truth[0][0]
    wrong = ToolCall(call.name, dict.fromkeys(call.arguments, "nowhere"))
    assert first([[wrong], *truth[0][1:]]) in (Mistake.VALUE, Mistake.MISSING_TOOL)
    assert first([*truth[0], [ToolCall("mkdir", {"dir_name": "needless"})]]) is Mistake.NEEDLESS
    lost = envtune.replay(task, [[], *truth[1:]])
    assert lost_by(task, lost, 1) is Mistake.EARLIER
    env = envtune.ToolUseEnv(task)
    env.reset()
    while not env.done:
        env.step("<tool_call>{</tool_call>")
    assert lost_by(task, env.episode, 0) is Mistake.FORMAT


def test_gains_are_by_group_with_all_at_the_end(oracle, silent):
    before, after = turn_frame(silent, TASKS), turn_frame(oracle, TASKS)
    for by in ("category", "type", "request"):
        table = gains(before, after, by)
        assert table.index[-1] == "all"
        assert (table.after == 1).all()
        assert table.n["all"] == len(after)
        assert table.n.drop("all").sum() == len(after)
        assert pd.api.types.is_integer_dtype(table.n)
        assert (table.answers <= table.n).all()
    assert oracle.rows[most_changed(silent, oracle)].progress - silent.rows[most_changed(silent, oracle)].progress == 1
    assert set(after.type) == {CHAIN, SINGLE, NOTHING}
    assert gains(before, after, "type").answers[NOTHING] == 1, "to call nothing"
    assert "cd_cat" in set(after.request)


def test_what_changed_is_numbers_of_what_there_was(oracle, silent, by_id):
    numbers = changed(silent, oracle, {"before": turn_frame(silent, TASKS), "after": turn_frame(oracle, TASKS)})
    assert numbers["task_accuracy"] == {"before": 0.0, "after": 1.0}
    assert numbers["chain_turn_accuracy"] == {"before": 0.0, "after": 1.0}
    assert numbers["waiting_turn_accuracy"]["after"] == 1.0
    assert (numbers["chains_at_zero"], numbers["chain_kinds"] > 0) == (0, True)
    backwards = changed(oracle, silent, {"before": turn_frame(oracle, TASKS), "after": turn_frame(silent, TASKS)})
    assert backwards["chains_at_zero"] == numbers["chain_kinds"]
    real = [by_id["multi_turn_base_0"], by_id["multi_turn_base_1"]]
    result = envtune.evaluate(envtune.load_policy("oracle"), real, progress=False)
    frame = turn_frame(result, real)
    without = changed(result, result, {"before": frame, "after": frame})
    assert set(without) == {"turn_accuracy", "task_accuracy", "task_accuracy_by_category"}


def test_turns_of_the_benchmark_have_a_type_too(by_id):
    turns = asked([by_id["multi_turn_miss_func_0"]])
    nothing = [not calls for calls in by_id["multi_turn_miss_func_0"].ground_truth]
    assert any(nothing)
    assert turns.type.tolist() == [NOTHING if none else BENCHMARK for none in nothing]


def test_scores_of_several_policies(oracle, silent):
    results = {"val": {"oracle": oracle, "silent": silent}}
    frames = {("val", name): turn_frame(result, TASKS) for name, result in results["val"].items()}
    table = scores(results, frames)
    assert list(table.index.get_level_values("category").unique()) == [*map(str, Category), "all"]
    assert (table.loc["val", "oracle"][["turn_accuracy", "chain_turn_accuracy", "task_accuracy"]] == 1).all(axis=None)
    assert table.loc["val", "silent"].chain_turn_accuracy.eq(0).all()
    assert table.loc["val", "silent"].turn_accuracy["all"] > 0, "where nothing is to be called, silence is right"
    no_chains = {key: frame[frame.type != CHAIN] for key, frame in frames.items()}
    assert scores(results, no_chains).chain_turn_accuracy.isna().all()
    assert readable(table)["turn accuracy"].iloc[4] == "100.0%"


def test_intervals_over_seeds():
    middle, low, high = seed_mean([0.5, 0.6, 0.7])
    assert middle == pytest.approx(0.6)
    assert high - middle == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-5)
    assert low == pytest.approx(2 * middle - high)
    assert math.isnan(seed_mean([0.5])[1])
    rows = [
        {"arm": arm, "seed": seed, "category": "all", "turn_accuracy": base + seed / 10}
        for arm, base in {"faded": 0.5, "none": 0.25}.items()
        for seed in range(3)
    ]
    summary = pd.DataFrame(rows)
    assert arm_means(summary)["mean"].tolist() == pytest.approx([0.6, 0.35])
    wide = arm_means(summary.assign(turn_accuracy=[0.5, 0.9, 0.9, 0.0, 0.1, 0.5]))
    assert (wide.high[0], wide.low[1]) == (1.0, 0.0), "an interval of shares ends where shares do"
    rewards = arm_means(summary.assign(execution=[11.0, 12.0, 13.0, 9.0, 9.0, 9.0]), "execution", share=False)
    assert (rewards.low[0], rewards.high[0]) == pytest.approx((12 - 2.484, 12 + 2.484), abs=1e-3)
    versus = arm_differences(summary, "faded").iloc[0]
    assert (versus.arm, versus.other, versus.seeds) == ("faded", "none", 3)
    assert [versus.difference, versus.low, versus.high] == pytest.approx([0.25] * 3)


@pytest.mark.slow
def test_side_by_side_is_what_one_process_does(tmp_path):
    policies = {"the oracle": "oracle", "silent": "silent"}
    fewer = Rules(max_steps_per_turn=15)
    sets = {"made": TaskSet("synth", "val", 6), "real": TaskSet("bfcl", "heldout", 4, rules=fewer)}
    alone = evaluate_all(policies, sets, tmp_path / "alone")
    evaluate_all(policies, sets, tmp_path / "both", jobs=2)
    limits = {name: {r.config["protocol"]["max_steps_per_turn"] for r in by.values()} for name, by in alone.items()}
    assert limits == {"made": {20}, "real": {15}}
    for by in alone.values():
        assert {policy: result.accuracy for policy, result in by.items()} == {"the oracle": 1.0, "silent": 0.0}
    for file in (tmp_path / "alone").iterdir():
        assert file.read_bytes() == (tmp_path / "both" / file.name).read_bytes()
    assert (tmp_path / "both/the_oracle-made.jsonl").exists()
