"""The formulas on literal episodes, and their ranges on any episode."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envtune import display, rewards
from envtune.evaluation.frames import reward_frame
from envtune.rewards import ExecutionReward
from envtune.training.curriculum import Stage
from envtune.types import (
    Category,
    Episode,
    FormatError,
    FormatErrorKind,
    Step,
    StepKind,
    StopReason,
    ToolCall,
    ToolResult,
    Turn,
)

CALL = ToolCall("ls", {})


def ok(goal=False):
    return Step(StepKind.TOOL_OK, "", (CALL,), (ToolResult("{}", False),), goal_reached=goal)


def failed(goal=False, unknown=False):
    results = (ToolResult("{}", False), ToolResult("error", True, unknown_tool=unknown))
    return Step(StepKind.TOOL_ERROR, "", (CALL, CALL), results, goal_reached=goal)


def unparsed(kind=FormatErrorKind.INVALID_JSON):
    return Step(StepKind.FORMAT_ERROR, "", format_error=FormatError(kind, "bad"))


ANSWER = Step(StepKind.ANSWER, "done")


def turn(*steps, state=True, response=True, expects=True):
    return Turn("do it", expects, steps, state, response)


def episode(*turns, n_turns=None, stop=StopReason.FINISHED):
    return Episode("multi_turn_base_0", Category.BASE, n_turns or len(turns), turns, stop)


@pytest.mark.parametrize(
    ("e", "syntax", "progress", "binary", "execution"),
    [
        pytest.param(episode(turn(ok(goal=True), ANSWER)), 2.0, 1.0, 1.0, 10.0, id="right"),
        pytest.param(episode(turn(ok(True), ANSWER), turn(ok(), ANSWER, state=False)), 2.0, 0.5, 0.0, 10.0, id="half"),
        pytest.param(episode(turn(ANSWER, response=False)), 0.0, 0.0, 0.0, 0.0, id="silent"),
        pytest.param(episode(turn(unparsed(), response=False)), 0.0, 0.0, 0.0, -0.8, id="only a format error"),
        pytest.param(
            episode(turn(failed(), ok(True), ok(True), ANSWER)),
            1 + 2 / 3,
            1.0,
            1.0,
            9.5,
            id="an error, then right, once",
        ),
        pytest.param(
            episode(turn(ok(), unparsed(FormatErrorKind.STRUCTURE), response=False)),
            1.5,
            0.0,
            0.0,
            -1.0,
            id="half parsed",
        ),
        pytest.param(episode(turn(failed(unknown=True), ANSWER, response=False)), 1.0, 0, 0, -1.0, id="unknown tool"),
        pytest.param(episode(turn(ok(True), ANSWER), turn(ANSWER, expects=False)), 2.0, 1.0, 1.0, 10.0, id="abstained"),
        pytest.param(
            episode(turn(ok(True), ANSWER), n_turns=4, stop=StopReason.STEP_LIMIT), 2.0, 0.25, 0.0, 10.0, id="forced"
        ),
        pytest.param(episode(n_turns=3, stop=StopReason.ABORTED), 0.0, 0.0, 0.0, 0.0, id="no step"),
    ],
)
def test_rewards_on_literal_episodes(e, syntax, progress, binary, execution):
    assert rewards.syntax(e) == pytest.approx(syntax)
    assert rewards.progress(e) == progress
    assert rewards.binary(e) == binary
    assert rewards.execution(e) == pytest.approx(execution)


def test_the_five_rows():
    e = episode(turn(ok(True), ok(), failed(), unparsed(), failed(unknown=True), unparsed(FormatErrorKind.STRUCTURE)))
    assert [float(r) for r in rewards.execution_steps(e)] == [10.0, 0.0, -0.5, -0.8, -1.0, -1.0]
    assert {r.value for r in ExecutionReward} == {10.0, 0.0, -0.5, -0.8, -1.0}


def test_a_step_with_a_failed_call_is_never_a_success():
    e = episode(turn(failed(goal=True), ok(goal=True), ANSWER))
    assert [float(r) for r in rewards.execution_steps(e)] == [-0.5, 10.0, 0.0]


def test_the_verdict_of_a_state_left_wrong_in_an_empty_turn():
    """The official checker does not look at such a turn; progress and binary do."""
    e = episode(turn(ok(), ANSWER, state=False, expects=False), turn(ok(True), ANSWER))
    assert (e.success, e.strict_success) == (True, False)
    assert (rewards.progress(e), rewards.binary(e)) == (0.5, 0.0)


steps = st.sampled_from([ok(), ok(True), failed(), failed(True), unparsed(), failed(unknown=True), ANSWER])
turns = st.builds(
    lambda s, a, b, c: turn(*s, state=a, response=b, expects=c), st.lists(steps, max_size=4), *[st.booleans()] * 3
)
episodes = st.builds(
    lambda t, more, stop: episode(*t, n_turns=max(1, len(t) + more), stop=stop),
    st.lists(turns, max_size=4),
    st.integers(0, 3),
    st.sampled_from(list(StopReason)),
)


@given(episodes)
def test_ranges_and_relations(e):
    assert 0 <= rewards.syntax(e) <= 2
    assert 0 <= rewards.progress(e) <= 1
    assert rewards.binary(e) == (rewards.progress(e) == 1)
    assert rewards.execution(e) <= 10 * e.n_turns
    assert len(rewards.execution_steps(e)) == len(e.steps)
    assert rewards.execution(e) == pytest.approx(sum(map(float, rewards.execution_steps(e))))
    if e.stop is StopReason.FINISHED and len(e.turns) == e.n_turns:
        assert rewards.binary(e) <= e.success
    assert e.strict_success <= e.success
    assert Episode.from_json(e.to_json()) == e


def test_a_row_of_the_table_is_all_that_a_new_reward_needs(monkeypatch):
    with pytest.raises(ValueError, match="reward 'mine' is unknown, known: syntax, progress, binary, execution"):
        Stage("s", "mine", steps=1, message_tokens=8, episode_tokens=80)
    monkeypatch.setitem(rewards.REWARDS, "mine", lambda episode: 0.25)
    e = episode(turn(ok(), ANSWER))
    assert Stage("s", "mine", steps=1, message_tokens=8, episode_tokens=80).reward == "mine"
    assert "mine 0.25" in display.episode_html(e)
    assert reward_frame([e]).mine.item() == 0.25
