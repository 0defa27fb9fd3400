"""The repairing agent: it plays the ground truth when it makes no mistake, and repairs only what a text names."""

from __future__ import annotations

import pytest

import envtune
from envtune.environment import Strength
from envtune.evaluation.stats import paired_difference
from envtune.policy.base import Chat
from envtune.studies.hint_repair import ARMS, play_repairer, repair_frame, repair_rates
from envtune.studies.repairer import ANSWER, Repairer, _advice, _found_by
from envtune.types import ToolCall


@pytest.fixture(scope="module")
def train():
    return envtune.load_tasks("bfcl", split="train")


def test_without_mistakes_it_plays_the_ground_truth(train):
    for task in train[::20]:
        episode = play_repairer(task, None, forget=0.0, spoil=0.0)
        assert episode.success
        assert [[step[0] for step in turn] for turn in episode.calls] == [list(turn) for turn in task.ground_truth]


def test_what_it_reads():
    assert _advice('{"error": "no", "hint": "Call cd."}') == "Call cd."
    assert _advice('{"error": 404}') == "404"
    assert _advice("Error during execution: no") == "Error during execution: no"
    assert _advice("[{'error': 'no'}]") == "[{'error': 'no'}]"
    assert _advice('{"ok": true}') is None
    assert _advice("None") is None


def test_a_forgotten_lookup_is_made_when_a_text_names_it(train):
    goals = (
        ToolCall("get_zipcode_based_on_city", {"city": "Rivermist"}),
        ToolCall("get_zipcode_based_on_city", {"city": "Stonebrook"}),
        ToolCall("estimate_distance", {"cityA": "83214", "cityB": "74532"}),
    )
    assert _found_by(goals) == {"83214": goals[0], "74532": goals[1]}
    task = next(t for t in train if {c.name for turn in t.ground_truth for c in turn} >= {c.name for c in goals})
    with_hints = play_repairer(task, Strength.ONE, forget=1.0, spoil=0.0)
    without = play_repairer(task, None, forget=1.0, spoil=0.0)
    assert "get_zipcode_based_on_city" in [call.name for step in with_hints.steps for call in step.calls]
    assert "get_zipcode_based_on_city" not in [call.name for step in without.steps for call in step.calls]


def test_same_messages_same_reply(train):
    task = train[0]
    chat = Chat(task, [{"role": "user", "content": task.user_turns[0]}], task.tools)
    policy = Repairer(seed=3)
    assert policy.reply([chat, chat]) == policy.reply([chat, chat]) == [Repairer(seed=3).reply([chat])[0]] * 2
    empty = next(t for t in envtune.load_tasks() if not t.ground_truth[0])
    assert policy.reply([Chat(empty, [{"role": "user", "content": ""}], empty.tools)]) == [ANSWER]


@pytest.mark.parametrize("rates", [{"forget": 2.0}, {"spoil": -0.1}])
def test_bad_rates_are_named(rates):
    with pytest.raises(ValueError, match=next(iter(rates))):
        Repairer(**rates)


@pytest.mark.slow
@pytest.mark.parametrize(("forget", "spoil", "gain"), [(0.4, 0.4, 0.5), (0.6, 0.0, 0.25), (0.0, 0.4, 0.4)])
def test_hints_are_worth_many_tasks(train, forget, spoil, gain):
    """On the same tasks with the same mistakes: with hints many more are solved than without, in every domain."""
    frame = repair_frame(train, forget=forget, spoil=spoil)
    solved = {arm: frame[(frame.arm == arm) & (frame.domain == "all")] for arm in ARMS}
    numbers = solved["no hints"].number.tolist()
    for arm in ("a list of three", "the one tool"):
        difference = paired_difference(
            solved[arm].solved.astype(float).tolist(), solved["no hints"].solved.astype(float).tolist(), numbers
        )
        assert difference.low > gain - 0.1, (arm, str(difference))
        assert difference.value > gain, (arm, str(difference))
    table = repair_rates(frame).set_index(["domain", "arm"]).rate.unstack()
    assert (table["the one tool"] >= table["no hints"]).all()
