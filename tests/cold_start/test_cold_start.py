"""The cold start: what its dialogues hold and do not hold, and that a build from nothing learns."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import pytest

from envtune.chat import parse_reply
from envtune.cold_start import examples
from envtune.cold_start.dialogues import ANSWERS, SINGLES, Source, solved
from envtune.cold_start.pairs import TRUE_PAIRS, Pairs
from envtune.data.synth_kinds import KINDS
from envtune.types import Category

CHAINS = [kind for kind in KINDS.values() if kind.chain]


def calls(dialogue):
    said = [m["content"] for m in dialogue.messages if m["role"] == "assistant"]
    return [call for text in said for call in parse_reply(text).calls]


@pytest.fixture(scope="module")
def mixture():
    return examples.dialogues(400, seed=5)


def test_every_message_is_a_call_of_an_available_tool_or_one_of_four_answers(mixture):
    for dialogue in mixture:
        shown = json.dumps([tool["function"]["name"] for tool in dialogue.tools]) + str(dialogue.messages)
        for message in dialogue.messages:
            if message["role"] == "assistant":
                reply = parse_reply(message["content"])
                assert reply.error is None
                assert reply.text in ANSWERS or reply.calls
        for call in calls(dialogue):
            assert call.name in shown


def test_no_chain_is_ever_solved(mixture):
    """Where a failed goal is followed by a tool that it needs in a chain of any split, that call is the end."""
    reached = 0
    for dialogue in mixture:
        failed = None
        for before, after in pairwise(dialogue.messages):
            if before["role"] == "assistant" and after["role"] == "tool" and "error" in after["content"]:
                failed = parse_reply(before["content"]).calls[0].name
            elif failed and after["role"] == "assistant" and (reply := parse_reply(after["content"])).calls:
                if (failed, reply.calls[0].name) in TRUE_PAIRS:
                    reached += 1
                    assert after is dialogue.messages[-1]
            elif after["role"] == "user":
                failed = None
    assert reached


def test_failures_are_joined_with_solved_requests_to_other_simulators_and_nothing_is_lost():
    pairs, rng = Pairs(3), random.Random(0)
    singles = Source(SINGLES, (Category.BASE,), 3)
    first, alone = 0, 0
    for _ in range(60):
        pair, other = pairs.next(), solved(singles.next())
        both = examples.joined(pair, other, rng)
        if both is pair:
            alone += 1
            continue
        assert both.messages in (pair.messages + other.messages, other.messages + pair.messages)
        offered = [tool["function"]["name"] for tool in both.tools]
        assert offered == sorted(tool["function"]["name"] for tool in (*pair.tools, *other.tools))
        assert len(offered) == len(set(offered))
        first += both.messages[: len(pair.messages)] == pair.messages
        if pair.messages[-1].get("content") not in ANSWERS:  # what is cut off before its result ends the whole
            assert both.messages[-1] == pair.messages[-1]
    assert 0 < first < 60 - alone
    assert 0 < alone < 40


def test_hints_name_the_tool_that_is_called_next():
    pairs, hinted, raw, tried = Pairs(3), 0, 0, 0
    for _ in range(150):
        dialogue = pairs.next()
        for error, reply in pairwise(dialogue.messages):
            if error["role"] == "tool" and '"error"' in error["content"]:
                called = [call.name for call in parse_reply(reply["content"]).calls]
                if "Tell the user" in error["content"]:
                    assert not called
                elif '"hint"' in error["content"]:
                    hinted += 1
                    assert called
                    assert called[0] in error["content"].split('"hint"')[1]
                else:
                    raw += 1
                    tried += bool(called)
    assert hinted > 50
    assert raw > 20
    assert 0 < tried < raw / 2


def test_tools_of_held_out_domains_are_never_shown(mixture):
    held_out = {tool for kind in KINDS.values() if not kind.train for tool in kind.tools}
    held_out -= {tool for kind in KINDS.values() if kind.train for tool in kind.tools}
    shown = {tool["function"]["name"] for dialogue in mixture for tool in dialogue.tools}
    assert held_out
    assert not shown & held_out


def test_dialogues_and_batches_repeat_with_the_seed(mixture):
    again = examples.dialogues(40, seed=5)
    assert [d.messages for d in again] == [d.messages for d in mixture[:40]]
    assert set(SINGLES).isdisjoint(kind.name for kind in CHAINS)


@pytest.mark.slow
def test_a_small_build_runs_and_learns(tmp_path):
    from envtune.cold_start.build import build
    from envtune.policy import load_policy

    card = build(tmp_path, minutes=0.04, seed=1, tasks=0)
    assert card["training"]["loss_last_50"] < card["training"]["loss_first"] - 1.0
    assert json.loads((tmp_path / "card.json").read_text()) == card
    assert load_policy(tmp_path).settings["checkpoint"] == tmp_path.name
