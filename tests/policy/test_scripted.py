"""Scripted agents: right, silent, or wrong in every way they promise, and the same in every process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from envtune.chat import parse_reply
from envtune.environment import ToolUseEnv, replay
from envtune.policy import Chat, Noise, NoisyOracle, Oracle, Policy, Silent, load_policy, perturb
from envtune.types import FormatErrorKind, StepKind, Task, ToolCall

NO_NOISE = replace(Noise.level(0), recover=0, parallel=0)


def play(policy: Policy, task: Task) -> ToolUseEnv:
    env = ToolUseEnv(task)
    observation = env.reset()
    chat = Chat(task, list(observation.messages), observation.tools)
    while not env.done:
        env.step(policy.reply([chat])[0])
        chat.step = chat.step + 1 if env.turn == chat.turn else 0
        chat.turn = env.turn
    return env


def flat(turns: Sequence[Sequence[Sequence[ToolCall]]]) -> list[list[ToolCall]]:
    return [[call for step in turn for call in step] for turn in turns]


def truth(task: Task) -> list[list[ToolCall]]:
    return [list(turn) for turn in task.ground_truth]


@pytest.mark.parametrize("max_steps", [1, 5, 20])
def test_oracle_succeeds(tasks: list[Task], max_steps: int) -> None:
    for task in tasks[::40]:
        episode = play(Oracle(max_steps), task).episode
        assert episode.strict_success
        assert flat(episode.calls) == truth(task)
        assert max(len(turn) for turn in episode.calls) <= max_steps


def test_oracle_makes_one_call_per_message(tasks: list[Task]) -> None:
    assert all(len(step) == 1 for turn in play(Oracle(), tasks[0]).episode.calls for step in turn)


def test_oracle_stays_below_the_step_limit_in_a_long_turn(tasks: list[Task]) -> None:
    longest = max(tasks, key=lambda task: max(map(len, task.ground_truth)))
    assert max(map(len, longest.ground_truth)) > 20
    assert play(Oracle(), longest).episode.success


def test_oracle_refuses_no_steps() -> None:
    with pytest.raises(ValueError, match=r"max_steps is 0\. It must be at least 1"):
        Oracle(0)


def test_silent_never_acts(tasks: list[Task]) -> None:
    episode = play(Silent(), tasks[0]).episode
    assert not episode.success
    assert all(step.kind is StepKind.ANSWER for step in episode.steps)


def test_no_noise_is_the_ground_truth(tasks: list[Task]) -> None:
    for task in tasks:
        assert perturb(task, NO_NOISE, 0) == [[[call] for call in turn] for turn in task.ground_truth]


def test_two_seeds_differ_and_one_seed_does_not(tasks: list[Task]) -> None:
    noise = Noise.level(0.5)
    assert perturb(tasks[0], noise, 1) == perturb(tasks[0], noise, 1)
    assert any(perturb(task, noise, 1) != perturb(task, noise, 2) for task in tasks[:5])
    assert play(NoisyOracle(noise, 1), tasks[0]).episode == play(NoisyOracle(noise, 1), tasks[0]).episode


PROGRAM = """
import hashlib, envtune
from envtune.policy import Noise, perturb
tasks = envtune.load_tasks("bfcl")[::80]
print(hashlib.sha256(repr([perturb(t, Noise.level(0.5), 7) for t in tasks]).encode()).hexdigest())
"""


def test_another_process_makes_the_same_mistakes(tasks: list[Task]) -> None:
    here = hashlib.sha256(repr([perturb(t, Noise.level(0.5), 7) for t in tasks[::80]]).encode()).hexdigest()
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    there = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here


@pytest.mark.parametrize(
    ("rate", "seen"),
    [
        ("drop_argument", lambda a, b: len(a.arguments) == len(b.arguments) + 1 and a.name == b.name),
        ("rename_argument", lambda a, b: a.arguments.keys() != b.arguments.keys() and a.name == b.name),
        ("change_value", lambda a, b: a.arguments.keys() == b.arguments.keys() and a.name == b.name),
        ("wrong_tool", lambda a, b: a.arguments == b.arguments),
    ],
)
def test_each_mistake_about_a_call(tasks: list[Task], rate: str, seen) -> None:  # type: ignore[no-untyped-def]
    noise = replace(NO_NOISE, **{rate: 1.0})
    changed = 0
    for task in tasks[::20]:
        for right, made in zip(truth(task), flat(perturb(task, noise, 0)), strict=True):
            for a, b in zip(right, made, strict=True):
                assert a == b or seen(a, b)
                changed += a != b
    assert changed > 50


def test_an_ill_typed_argument_has_another_json_type(tasks: list[Task]) -> None:
    noise = replace(NO_NOISE, retype_argument=1.0)
    for task in tasks[::20]:
        for right, made in zip(truth(task), flat(perturb(task, noise, 0)), strict=True):
            for a, b in zip(right, made, strict=True):
                different = [name for name in a.arguments if a.arguments[name] is not b.arguments[name]]
                assert len(different) <= 1
                for name in different:
                    assert type(a.arguments[name]) is not type(b.arguments[name])


def test_order_skips_and_additions(tasks: list[Task]) -> None:
    for task in tasks[:200:10]:
        reordered = flat(perturb(task, replace(NO_NOISE, wrong_order=1), 0))
        assert [Counter(map(repr, turn)) for turn in reordered] == [Counter(map(repr, turn)) for turn in truth(task)]
        assert flat(perturb(task, replace(NO_NOISE, skip_call=1), 0)) == [[] for _ in task.ground_truth]
        longer = flat(perturb(task, replace(NO_NOISE, needless_call=1), 0))
        assert [turn[1::2] for turn in longer] == truth(task)
        together = perturb(task, replace(NO_NOISE, parallel=1), 0)
        assert together == [[list(turn)] if turn else [] for turn in task.ground_truth]


def test_needless_calls_fit_their_schema(tasks: list[Task]) -> None:
    for task in tasks[::20]:
        schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in task.tools_at(task.n_turns)}
        for turn in flat(perturb(task, replace(NO_NOISE, needless_call=1), 0)):
            for call in turn[::2]:
                assert set(schemas[call.name].get("required", ())) <= call.arguments.keys()
                assert call.arguments.keys() <= schemas[call.name]["properties"].keys()


def test_acting_unasked_spoils_abstention_only_where_nothing_is_asked(tasks: list[Task]) -> None:
    noise = replace(NO_NOISE, act_unasked=1)
    for task in tasks[200:400:20]:
        episode = replay(task, perturb(task, noise, 0))
        assert [turn.abstained for turn in episode.turns] == [None if turn else False for turn in task.ground_truth]
        assert not episode.strict_success


@pytest.mark.parametrize(
    ("rate", "kind"), [("broken_json", FormatErrorKind.INVALID_JSON), ("cut_off", FormatErrorKind.STRUCTURE)]
)
def test_garbled_text_is_a_format_error(tasks: list[Task], rate: str, kind: FormatErrorKind) -> None:
    policy = NoisyOracle(replace(NO_NOISE, parallel=0.3, **{rate: 1.0}), seed=3)
    for task in tasks[::10]:
        for turn, calls in enumerate(task.ground_truth):
            if calls:
                error = parse_reply(policy.reply([Chat(task, [], (), turn)])[0]).error
                assert error is not None
                assert error.kind is kind


def test_perturbations_are_harmless_and_json(tasks: list[Task]) -> None:
    noise = Noise.level(1.0)
    for task in tasks:
        for turn in flat(perturb(task, noise, 0)):
            for call in turn:
                json.dumps(call.arguments, allow_nan=False)
                if call.name in ("cp", "mv"):
                    assert call.arguments.get("source") != call.arguments.get("destination")


def test_perturbations_are_diverse(tasks: list[Task]) -> None:
    kinds: Counter[str] = Counter()
    for task in tasks[::2]:
        turns = perturb(task, Noise.level(0.5), 0)
        episode = replay(task, turns)
        kinds[f"success {episode.success}"] += 1
        kinds["empty turn"] += any(not turn for turn, right in zip(turns, task.ground_truth, strict=True) if right)
        kinds["several calls a step"] += any(len(step) > 1 for turn in turns for step in turn)
        for step in episode.steps:
            for result in step.results:
                kinds["unknown tool"] += result.unknown_tool
                kinds["missing argument"] += "missing" in result.text and result.error
                kinds["unexpected argument"] += "unexpected keyword" in result.text and result.error
    assert min(kinds.values()) >= 10, kinds


@pytest.mark.parametrize(("spec", "name"), [("oracle", "oracle"), ("silent", "silent"), ("noisy", "noisy")])
def test_load_policy(spec: str, name: str) -> None:
    assert load_policy(spec).name == name


def test_load_policy_with_level_and_seed() -> None:
    policy = load_policy("noisy:0.11", seed=4)
    assert policy.settings["seed"] == 4
    assert policy.settings["cut_off"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("orcale", "unknown policy 'orcale'. Known: 'oracle', 'silent', 'noisy'"),
        ("oracle:1", "unknown policy 'oracle:1'"),
        ("noisy:", "'' is not a number"),
        ("noisy:much", "'much' is not a number. Write for example 'noisy:0.3'"),
        ("noisy:1.5", "noise level is 1.5. It must be a share of the calls, from 0 to 1"),
        ("noisy:nan", "noise level is nan"),
    ],
)
def test_load_policy_refuses(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_policy(spec)


def test_noise_refuses_what_is_no_probability() -> None:
    with pytest.raises(ValueError, match=r"noise rate skip_call is 2\. It must be a probability"):
        Noise(skip_call=2)
