"""The turn loop: how turns and episodes end, what the agent sees, and that nothing it writes breaks it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envtune
from envtune.chat import render_calls
from envtune.environment.env import HANDOVER, TURN_FEEDBACK
from envtune.types import Category, Episode, StepKind, StopReason, ToolCall


def play(task, texts, **settings_):
    env = envtune.ToolUseEnv(task, **settings_)
    observations = [env.reset()]
    for text in texts:
        if observations[-1].done:
            break
        observations.append(env.step(text))
    return env, observations


def truth(task):
    return [[[call] for call in turn] for turn in task.ground_truth]


LS = render_calls([ToolCall("ls", {})])


def test_a_turn_ends_with_an_answer(by_id):
    task = by_id["multi_turn_base_0"]
    env, seen = play(task, [LS, "done"])
    assert [m["role"] for m in seen[0].messages] == ["user"]
    assert [m["role"] for m in seen[1].messages] == ["tool"]
    assert seen[2].messages == ({"role": "user", "content": task.user_turns[1]},)
    assert env.turn == 1
    assert [step.kind for step in env.episode.turns[0].steps] == [StepKind.TOOL_OK, StepKind.ANSWER]


def test_several_calls_in_one_step_run_in_order(by_id):
    task = by_id["multi_turn_base_0"]
    calls = [ToolCall("cd", {"folder": "document"}), ToolCall("ls", {}), ToolCall("cd", {"folder": "x"})]
    env, seen = play(task, [render_calls(calls)])
    (step,) = env.episode.steps
    assert step.calls == tuple(calls)
    assert step.kind is StepKind.TOOL_ERROR
    assert [r.error for r in step.results] == [False, False, True]
    assert [m["content"] for m in seen[1].messages] == [r.text for r in step.results]
    assert "final_report.pdf" in step.results[1].text


def test_a_message_that_cannot_be_parsed_ends_the_turn_and_runs_nothing(by_id):
    env, _ = play(by_id["multi_turn_base_0"], [f"{LS}<tool_call>{{", "x"])
    (step,) = env.episode.turns[0].steps
    assert (step.kind, step.calls, step.results) == (StepKind.FORMAT_ERROR, (), ())
    assert step.format_error is not None


@pytest.mark.parametrize(("limit", "n", "stop"), [(20, 20, "aborted"), (20, 21, "step_limit"), (5, 6, "step_limit")])
def test_step_limit_as_the_official_runner_counts_it(by_id, limit, n, stop):
    """20 tool steps may be followed by an answer; the 21st is executed and forces the end."""
    env, seen = play(by_id["multi_turn_base_0"], [LS] * n, max_steps_per_turn=limit)
    assert env.episode.stop == stop
    assert seen[-1].done == (stop == "step_limit")
    assert len(env.episode.turns[0].steps) == n
    assert not env.episode.success


def test_a_turn_that_was_forced_to_end_is_never_correct(tasks):
    task = tasks[0]
    env, _ = play(task, [render_calls(task.ground_truth[0]), LS, LS], max_steps_per_turn=2)
    assert env.episode.stop is StopReason.STEP_LIMIT
    assert env.episode.turns[0].steps[0].goal_reached
    assert not env.episode.turns[0].correct
    with pytest.raises(RuntimeError, match=r"multi_turn_base_0 is over.*reset"):
        env.step("more")
    for message in (None, 5, b"more", ["more"]):
        with pytest.raises(TypeError, match=rf"a message is text, and this is of type {type(message).__name__}\."):
            env.step(message)


def test_ground_truth_replays_to_the_maximum_of_every_reward(tasks):
    for task in tasks[::7]:
        for hints in (False, True):
            episode = envtune.replay(task, truth(task), hints=hints)
            assert episode.success
            assert episode.strict_success
            assert envtune.rewards.progress(episode) == envtune.rewards.binary(episode) == 1.0
            assert envtune.rewards.syntax(episode) == 2.0
            assert envtune.rewards.execution(episode) == 10.0 * sum(map(bool, task.ground_truth))


def test_doing_nothing_fails(tasks):
    for task in tasks[::9]:
        episode = envtune.replay(task, [[]] * task.n_turns)
        assert not episode.success
        assert not any(turn.correct for turn in episode.turns if turn.expects_calls)


def test_abstention(by_id):
    task = by_id["multi_turn_miss_param_0"]
    empty = task.ground_truth.index(())
    silent = envtune.replay(task, truth(task))
    assert [t.abstained for t in silent.turns] == [True if i == empty else None for i in range(task.n_turns)]
    acted = truth(task)
    acted[empty] = [[ToolCall("ls", {})]]
    looked = envtune.replay(task, acted)
    assert (looked.turns[empty].abstained, looked.turns[empty].state_ok) == (False, True)
    assert (looked.success, looked.strict_success) == (True, False)
    acted[empty] = [[ToolCall("touch", {"file_name": "new"})], [ToolCall("rm", {"file_name": "new"})]]
    undone = envtune.replay(task, acted)
    assert undone.success
    acted[empty] = [[ToolCall("touch", {"file_name": "new"})]]
    changed = envtune.replay(task, acted)
    assert not changed.turns[empty].state_ok
    assert not changed.success


def test_withheld_tools_by_message_and_by_recompilation(by_id):
    task = by_id["multi_turn_miss_func_0"]
    ((turn, withheld),) = task.withheld.items()
    for reveal in ("message", "recompile"):
        _, seen = play(task, ["answer"] * turn, reveal=reveal)
        before, after = seen[turn - 1], seen[turn]
        assert before.tools == task.tools
        assert after.tools == (*task.tools, *withheld)
        assert [o.recompiled for o in seen] == [reveal == "recompile" and i == turn for i in range(len(seen))]
        (message,) = after.messages
        *schemas, sentence = message["content"].split("\n")
        assert sentence == HANDOVER
        assert [json.loads(line) for line in schemas] == (list(withheld) if reveal == "message" else [])


def test_hints_are_an_overlay(by_id):
    """With hints on, failures read differently; states, verdicts and everything that worked stay the same."""
    task = by_id["multi_turn_base_0"]
    turns = truth(task)
    turns[0].insert(0, [ToolCall("cd", {"directory": "document"}), ToolCall("ls", {})])
    plain, hinted = envtune.replay(task, turns), envtune.replay(task, turns, hints=True)
    assert plain.success
    assert hinted.success
    failed, fine = hinted.steps[0].results
    assert failed.hint == "cd has no argument directory. Repeat cd with folder only."
    assert json.loads(failed.text) == {"error": plain.steps[0].results[0].text, "hint": failed.hint}
    assert fine == plain.steps[0].results[1]
    assert [s.results for s in hinted.steps[1:]] == [s.results for s in plain.steps[1:]]


def test_a_soft_failure_gets_a_hint_but_is_no_error(by_id):
    task = by_id["multi_turn_base_0"]
    turns = [[[ToolCall("authenticate_twitter", {"username": "nobody", "password": "x"})]]]
    plain, hinted = (envtune.replay(task, turns, hints=hints).steps[0] for hints in (False, True))
    assert plain.kind is hinted.kind is StepKind.TOOL_OK
    assert not hinted.results[0].error
    assert json.loads(hinted.results[0].text) == {
        **json.loads(plain.results[0].text),
        "hint": hinted.results[0].hint,
    }


def test_hints_are_drawn_once_for_a_tool_in_a_turn(by_id):
    """An agent that fails in the same way again gets the same answer again."""
    tasks = [by_id[f"multi_turn_base_{number}"] for number in range(40)]
    calls = [ToolCall("cd", {}), ToolCall("mkdir", {})]

    def given(**settings_):
        for task in tasks:
            played = envtune.replay(task, [[calls] * 3], hints=True, **settings_)
            again = [tuple(bool(result.hint) for result in step.results) for step in played.turns[0].steps[:3]]
            assert len(set(again)) == 1
            yield from again[0]

    assert all(given())
    assert not any(given(hint_rate=0.0))
    half = list(given(hint_rate=0.5))
    assert 20 < sum(half) < 60
    assert len(set(zip(half[::2], half[1::2], strict=True))) == 4, "each tool has its own draw"
    assert half == list(given(hint_rate=0.5))
    assert half != list(given(hint_rate=0.5, seed=1))


def test_turn_feedback_follows_a_needless_call(by_id):
    """It precedes the next user message where the agent acted in a turn that expects no call, and nowhere else."""
    task = by_id["multi_turn_miss_param_1"]
    empty = next(i for i, turn in enumerate(task.ground_truth) if not turn)
    calls = truth(task)
    calls[empty] = [[ToolCall("pwd", {})]]
    silent = envtune.replay(task, truth(task), turn_feedback=True)
    acted = envtune.replay(task, calls, turn_feedback=True)
    plain = envtune.replay(task, calls)
    assert [turn.user for turn in silent.turns] == list(task.user_turns)
    assert [turn.user for turn in plain.turns] == list(task.user_turns)
    expected = list(task.user_turns)
    expected[empty + 1] = f"{TURN_FEEDBACK}\n{expected[empty + 1]}"
    assert [turn.user for turn in acted.turns] == expected
    assert acted.turn_feedback
    assert not plain.turn_feedback
    assert Episode.from_json(acted.to_json()) == acted


def test_turn_feedback_says_nothing_where_calls_are_expected(tasks):
    """An agent that acts in every turn is told so after the turns with an empty ground truth only."""
    for task in tasks[::40]:
        env = envtune.ToolUseEnv(task, turn_feedback=True)
        users = [env.reset().messages[0]["content"]]
        while not env.done:
            env.step(render_calls([ToolCall("nothing", {})]))
            users += [message["content"] for message in env.step("Done.").messages]
        told = [user.startswith(TURN_FEEDBACK) for user in users]
        assert told == [False] + [not calls for calls in task.ground_truth[:-1]]


def test_a_shorter_replay_counts_as_aborted_and_a_longer_one_is_refused(by_id):
    task = by_id["multi_turn_base_0"]
    assert envtune.replay(task, truth(task)[:-1]).stop is StopReason.ABORTED
    with pytest.raises(ValueError, match="5 turns to replay, but task multi_turn_base_0 has 4"):
        envtune.replay(task, [*truth(task), []])


def test_reset_starts_over(tasks):
    env = envtune.ToolUseEnv(tasks[0])
    first = env.reset()
    env.step(render_calls([ToolCall("mkdir", {"dir_name": "mine"})]))
    assert env.reset() == first
    assert env.episode.turns == ()
    env.step(LS)
    assert "mine" not in env.episode.steps[0].results[0].text


def test_a_lone_surrogate_is_recorded_as_a_question_mark(tasks):
    env, _ = play(tasks[0], ["\ud800"])
    assert env.episode.steps[0].text == "?"
    assert Episode.from_json(env.episode.to_json()) == env.episode


@pytest.mark.parametrize("bad", [{"reveal": "never"}, {"max_steps_per_turn": 0}, {"hint_rate": 2.0}])
def test_bad_settings_are_named(tasks, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        envtune.ToolUseEnv(tasks[0], **bad)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.floats(-9, 9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
tool_names = (
    st.sampled_from(["cd", "ls", "touch", "tail", "wc", "post_tweet", "comment", "sort", "nothing"]) | st.text()
)
argument_names = st.sampled_from(["folder", "file_name", "lines", "tweet_id", "content", "mode"]) | st.text(max_size=6)
calls = st.builds(ToolCall, tool_names, st.dictionaries(argument_names, json_values, max_size=3))
messages = st.text(max_size=60) | st.lists(calls, min_size=1, max_size=3).map(render_calls)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(Category)), st.lists(messages, max_size=12), st.booleans())
def test_whatever_the_agent_writes_is_data(category, texts, hints):
    task = next(t for t in envtune.load_tasks() if t.category is category)
    env, seen = play(task, texts, hints=hints, max_steps_per_turn=3)
    episode = env.episode
    assert Episode.from_json(episode.to_json()) == episode
    assert [step.text for step in episode.steps] == texts[: len(episode.steps)]
    for step in episode.steps:
        assert len(step.calls) == len(step.results)
        assert bool(step.calls) == (step.kind in (StepKind.TOOL_OK, StepKind.TOOL_ERROR))
        assert (step.kind is StepKind.TOOL_ERROR) == any(r.error for r in step.results)
        assert hints or not any(r.hint for r in step.results)
    assert episode.success <= (envtune.rewards.progress(episode) > 0)
    assert sum(o.done for o in seen) == env.done
    assert "<script" not in episode._repr_html_()
