"""The published protocols: what each changes, and that an evaluation plays by it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import small

from envtune.chat import render_calls
from envtune.environment import Strength, ToolUseEnv
from envtune.environment.rules import PROTOCOLS, Rules, differences, rules_of
from envtune.evaluation import evaluate
from envtune.policy import Oracle
from envtune.policy.base import Chat
from envtune.training.recipes import recipe
from envtune.types import JSON, StopReason, Task, ToolCall


class Recorder:
    """Answers like an oracle, or calls for ever, and keeps the chats."""

    def __init__(self, for_ever: bool = False, settings: JSON | None = None) -> None:
        self.name, self.settings, self.for_ever = "recorder", settings or {}, for_ever
        self.chats: dict[str, Chat] = {}

    def reply(self, chats: Sequence[Chat]) -> list[str]:
        self.chats |= {chat.task.id: chat for chat in chats}
        call = render_calls([ToolCall("pwd", {})])
        return [call] * len(chats) if self.for_ever else Oracle(5).reply(chats)


def play(tasks: Sequence[Task], rules: str | Rules | None, policy: Recorder | None = None):
    policy = policy or Recorder()
    return evaluate(policy, tasks, rules=rules, progress=False), policy


@pytest.mark.parametrize(("name", "steps"), [("bfcl_fc", 20), ("t3rl", 10), ("paper", 5)])
def test_the_step_limit_is_the_protocols(name, steps):
    result, _ = play([small.task()], name, Recorder(for_ever=True))
    assert len(result.episodes[0].steps) == steps + 1
    assert result.episodes[0].stop is StopReason.STEP_LIMIT


def test_t3rl_ends_an_episode_after_thirty_messages():
    class Slow(Recorder):
        def reply(self, chats: Sequence[Chat]) -> list[str]:
            call = render_calls([ToolCall("pwd", {})])
            return [call if chat.step < 10 else "Done." for chat in chats]

    result, _ = play([small.task(turns=4)], "t3rl", Slow())
    assert len(result.episodes[0].steps) == 30
    assert result.episodes[0].stop is StopReason.ABORTED


def test_withheld_tools_are_handed_over_as_the_protocol_says(tasks):
    task = next(task for task in tasks if task.withheld)
    turn = min(task.withheld)
    users = {}
    for name in PROTOCOLS:
        result, policy = play([task], name)
        chat = policy.chats[task.id]
        assert result.accuracy == 1.0
        assert result.config["protocol"]["name"] == name
        users[name] = result.episodes[0].turns[turn].user
        assert (len(chat.tools) > len(task.tools)) == (name == "bfcl_fc")
    assert users["paper"] == users["t3rl"] != users["bfcl_fc"]


def test_the_papers_chat_is_plain_messages():
    _, policy = play([small.task()], "paper")
    chat = policy.chats["small_base_0"]
    assert chat.tools == ()
    assert {message["role"] for message in chat.messages} == {"system", "user", "assistant"}
    assert '"name": "mkdir"' in chat.messages[0]["content"]
    assert '{"name": NAME, "arguments": {...}}' in chat.messages[0]["content"]
    assert chat.messages[3] == {"role": "user", "content": "<tool_response>\nNone\n</tool_response>"}


def test_no_protocol_is_recorded_as_before():
    result, _ = play([small.task()], None)
    assert result.config["protocol"] == {"hints": False, "max_steps_per_turn": 20, "reveal": "message"}


@pytest.mark.parametrize("name", ["paper", "t3rl", "laptop"])
def test_a_policy_is_judged_by_the_rules_it_was_trained_by(name):
    rules = recipe(name).stages[-1].judged
    result, policy = play([small.task()], rules, Recorder(for_ever=True))
    assert len(result.episodes[0].steps) == rules.max_steps_per_turn + 1
    assert (policy.chats["small_base_0"].tools == ()) == (name == "paper")
    said = {"paper": {"calls": "tagged"}, "t3rl": {"max_steps": 30}, "laptop": {}}[name]
    basics = {"hints": False, "max_steps_per_turn": rules.max_steps_per_turn, "reveal": "message"}
    assert result.config["protocol"] == basics | said


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match=r"unknown protocol 'bfcl'\. Known: bfcl_fc, t3rl, paper"):
        play([small.task()], "bfcl")
    with pytest.raises(ValueError, match=r"temperature 0.7, protocol bfcl_fc at 0.001"):
        play([small.task()], "bfcl_fc", Recorder(settings={"temperature": 0.7}))
    with pytest.raises(ValueError, match="give hints or feedback"):
        evaluate(Recorder(), [small.task()], hints=True, progress=False)
    with pytest.raises(ValueError, match="reveal must be 'message'"):
        Rules(calls="tagged", reveal="recompile")
    with pytest.raises(TypeError, match=r"no rule 'max_step'\. Known: hints, max_steps_per_turn"):
        rules_of(max_step=3)
    for wrong in ({"max_steps_per_turn": 0}, {"max_steps": 0}, {"hint_rate": 1.5}, {"reveal": "x"}, {"calls": "x"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            rules_of(**wrong)


def test_values_of_another_type_are_refused():
    for wrong in ({"hints": 0.5}, {"hints": "no"}):
        with pytest.raises(TypeError, match="It must be True or False"):
            rules_of(**wrong)
    with pytest.raises(TypeError, match="They must be Rules, or one of bfcl_fc, t3rl, paper"):
        rules_of(20)
    for limit in (True, 2.5, "3"):
        with pytest.raises(ValueError, match=r"max_steps_per_turn is .* It must be at least 1, or None"):
            rules_of(max_steps_per_turn=limit)


def test_short_cuts_replace_single_rules():
    assert rules_of() == rules_of(None, hints=False) == Rules()
    assert rules_of(hints=True) == Rules(hint_rate=1.0)
    assert rules_of(hints=True, hint_rate=0.5).hint_rate == 0.5
    assert rules_of(hints=False, hint_rate=0.5).hint_rate == 0.0
    assert rules_of(hint_strength="list").hint_strength is Strength.LIST
    assert rules_of("t3rl") is PROTOCOLS["t3rl"]
    changed = rules_of("t3rl", max_steps=5)
    assert (changed.name, changed.max_steps, changed.max_steps_per_turn) == ("", 5, 10)
    assert rules_of("t3rl", max_steps=30).name == "t3rl"


def test_what_is_judged_has_the_limits_and_no_help():
    helped = Rules(5, max_steps=7, hint_rate=0.5, hint_strength=Strength.LIST, turn_feedback=True, temperature=1.0)
    assert helped.helps
    assert helped.judged == Rules(5, max_steps=7, temperature=0.0)


def test_the_environment_counts_the_messages():
    env = ToolUseEnv(small.task(turns=4), max_steps=3)
    env.reset()
    assert not env.step("Done.").done
    assert not env.step(render_calls([ToolCall("pwd", {})])).done
    assert env.step(render_calls([ToolCall("pwd", {})])).done
    assert env.episode.stop is StopReason.ABORTED
    assert [len(turn.steps) for turn in env.episode.turns] == [1, 2]


def test_the_table_shows_what_changes():
    table = differences()
    assert list(table.columns) == list(PROTOCOLS)
    assert list(table.loc["max_steps_per_turn"]) == [20, 10, 5]
    assert table.loc["max_steps", "paper"] == "–"
    table = differences({"here": Rules()})
    assert list(table.columns) == ["here", *PROTOCOLS]
    assert list(table.here[["source", "max_steps_per_turn", "reveal"]]) == ["–", 20, "message"]
    assert all(rules_of(name) is rules for name, rules in PROTOCOLS.items())


def names(tools: Sequence[JSON]) -> list[str]:
    return [tool["function"]["name"] for tool in tools]


def opening_tools(task: Task, **changes: object) -> tuple[JSON, ...]:
    return ToolUseEnv(task, **changes).reset().tools


def test_a_shuffled_order_holds_the_same_tools(tasks):
    for task in tasks[::57]:
        official, shuffled = opening_tools(task), opening_tools(task, tool_seed=3)
        assert official == task.tools
        assert shuffled != official
        assert sorted(shuffled, key=str) == sorted(official, key=str)
        assert shuffled == opening_tools(task, tool_seed=3)
        assert shuffled != opening_tools(task, tool_seed=4)


def test_tasks_are_shuffled_in_different_ways(tasks):
    base, sibling = tasks[0], next(task for task in tasks if task.category == "long_context")
    assert base.tools == sibling.tools
    assert opening_tools(base, tool_seed=0) != opening_tools(sibling, tool_seed=0)


def test_a_shuffled_tool_keeps_its_place_when_more_are_handed_over(tasks):
    task = next(task for task in tasks if task.withheld)
    turn = min(task.withheld)
    result, policy = play([task], Rules(reveal="recompile", tool_seed=1))
    assert result.accuracy == 1.0
    later = names(policy.chats[task.id].tools)
    before = names(opening_tools(task, tool_seed=1))
    assert [name for name in later if name in before] == before
    assert sorted(later) == sorted(names(task.tools_at(task.n_turns)))
    handed_over = ToolUseEnv(task, tool_seed=1)
    observation = handed_over.reset()
    while handed_over.turn < turn:
        observation = handed_over.step("Done.")
    lines = observation.messages[0]["content"].splitlines()
    assert sorted(lines[:-1]) == sorted(json.dumps(tool) for tool in task.withheld[turn])


def test_the_order_is_recorded_only_where_it_is_shuffled():
    for rules in (Rules(), *PROTOCOLS.values()):
        assert "tool_seed" not in rules.record
        assert rules_of(rules, tool_seed=0).record["tool_seed"] == 0
    for wrong in (True, 0.5, "1"):
        with pytest.raises(ValueError, match=r"tool_seed is .* It must be a whole number, or None"):
            Rules(tool_seed=wrong)


def test_the_papers_instructions_list_the_tools_as_they_are_shuffled(tasks):
    rules = rules_of("paper", tool_seed=2)
    _, policy = play([tasks[0]], rules)
    listed = policy.chats[tasks[0].id].messages[0]["content"].splitlines()
    shuffled = [json.dumps(tool["function"]) for tool in opening_tools(tasks[0], tool_seed=2)]
    assert listed[-len(shuffled) :] == shuffled
