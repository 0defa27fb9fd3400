"""The published protocols: what each changes, and that an evaluation plays by it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import small

from envtune.chat import render_calls
from envtune.environment.rules import PROTOCOLS, Preset, differences, protocol
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


def play(tasks: Sequence[Task], name: str | Preset | None, policy: Recorder | None = None):
    policy = policy or Recorder()
    return evaluate(policy, tasks, protocol=name, progress=False), policy


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
    rules = recipe(name).stages[-1].validation().rules
    result, policy = play([small.task()], rules, Recorder(for_ever=True))
    assert len(result.episodes[0].steps) == rules.max_steps_per_turn + 1
    assert (policy.chats["small_base_0"].tools == ()) == (name == "paper")
    said = {"paper": {"calls": "tagged"}, "t3rl": {"max_steps": 30}, "laptop": {}}[name]
    basics = {"hints": False, "max_steps_per_turn": rules.max_steps_per_turn, "reveal": "message"}
    assert result.config["protocol"] == basics | said


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="unknown protocol 'bfcl'; known: bfcl_fc, t3rl, paper"):
        play([small.task()], "bfcl")
    with pytest.raises(ValueError, match=r"temperature 0.7, protocol bfcl_fc at 0.001"):
        play([small.task()], "bfcl_fc", Recorder(settings={"temperature": 0.7}))
    with pytest.raises(ValueError, match="give either it or them"):
        evaluate(Recorder(), [small.task()], protocol="t3rl", reveal="recompile", progress=False)
    with pytest.raises(ValueError, match="reveal must be 'message'"):
        Preset(calls="tagged", reveal="recompile")


def test_the_table_shows_what_changes():
    table = differences()
    assert list(table.columns) == list(PROTOCOLS)
    assert list(table.loc["max_steps_per_turn"]) == [20, 10, 5]
    assert table.loc["max_steps", "paper"] == "–"
    beside = differences({"here": Preset()})
    assert list(beside.columns) == ["here", *PROTOCOLS]
    assert list(beside.here[["source", "max_steps_per_turn", "reveal"]]) == ["–", 20, "message"]
    assert {protocol(name) for name in PROTOCOLS} == set(PROTOCOLS.values())
