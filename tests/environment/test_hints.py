"""Hints: what the schemas and the table of rules say, how much a hint gives away, and that it is pure.

The four properties are tested in `test_hint_properties.py`, coverage in `tests/evaluation/test_hint_coverage.py`.
"""

from __future__ import annotations

import copy
import json
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envtune
from envtune.data import bfcl
from envtune.environment.hint_rules import RULES, RULES_BY_TOOL
from envtune.environment.hint_schema import allowed_values, schema_advice
from envtune.environment.hints import LIST_LENGTH, Strength, hint, hinted_text
from envtune.environment.simulator import RawResult, Simulators
from envtune.studies.failures import VEHICLE, Failure, play
from envtune.types import ToolCall

FAILED = RawResult("Error during execution: it failed", True)
UNKNOWN = RawResult("Error during execution: name 'x' is not defined", True, unknown_tool=True)
DOMAINS = list(bfcl.TOOL_DOCS)
TOOLS = {document["name"] for documents in bfcl.tool_documents().values() for document in documents}


# -- what the schemas say ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "rule", "text"),
    [
        (
            ToolCall("CD", {}),
            "unknown_tool",
            "There is no tool 'CD' in the list. Call cd if that is what you mean, or tell the user that no available "
            "tool does it.",
        ),
        (
            ToolCall("fs.mkdirs", {}),
            "unknown_tool",
            "There is no tool 'fs.mkdirs' in the list. Call mkdir if that is what you mean, or tell the user that no "
            "available tool does it.",
        ),
        (
            ToolCall("zzzz", {}),
            "unknown_tool",
            "There is no tool 'zzzz' in the list. Choose one from the list of tools, or tell the user that none "
            "does it.",
        ),
        (
            ToolCall("cd", {}),
            "missing_argument",
            "cd also needs folder (string). Repeat cd with it, and ask the user for a value that you can find nowhere.",
        ),
        (
            ToolCall("cd", {"dir": "a"}),
            "unknown_argument",
            "cd has no argument dir. Repeat cd with folder only.",
        ),
        (
            ToolCall("pwd", {"a": 1, "b": 2}),
            "unknown_argument",
            "pwd has no argument a and b. Repeat pwd without any argument.",
        ),
        (
            ToolCall("cd", {"folder": 5}),
            "argument_type",
            "folder must be of type string, not integer. Repeat cd with such a value for folder.",
        ),
        (
            ToolCall("tail", {"file_name": "a", "lines": True}),
            "argument_type",
            "lines must be of type integer, not boolean. Repeat tail with such a value for lines.",
        ),
        (
            ToolCall("post_tweet", {"content": "a", "tags": ["a", None]}),
            "argument_type",
            "Every item of tags must be of type string, not null. Repeat post_tweet with such a value for tags.",
        ),
        (
            ToolCall("wc", {"file_name": "a", "mode": "x"}),
            "enum",
            "mode must be one of l, w or c. Repeat wc with such a value for mode.",
        ),
    ],
)
def test_schema_rules(by_id, call, rule, text):
    tools = by_id["multi_turn_base_0"].tools
    known = call.name in {tool["function"]["name"] for tool in tools}
    found = hint(call, FAILED if known else UNKNOWN, tools, [])
    assert found is not None
    assert (found.rule, found.text) == (rule, text)


@pytest.mark.parametrize(
    ("description", "values"),
    [
        ('The mode. [Enum]: ["engage", "release"]', ["engage", "release"]),
        ("The currency. [Enum]: USD, RMB", ["USD", "RMB"]),
        ("The class. Options are: economy, business, first.", ["economy", "business", "first"]),
        ("Here are the options: read_write, read", ["read_write", "read"]),
        ("Mode of operation ('l' for lines, 'w' for words).", ["l", "w"]),
        ("The sector (e.g., 'Technology').", []),
    ],
)
def test_values_listed_in_descriptions(description, values):
    assert allowed_values(description) == values


def test_a_right_call_that_works_gets_no_advice(tasks):
    """Else a hint would forbid what is right: no call of any ground truth that works breaks a rule of its schema, and
    no row of the table takes its result for a failure, but for a login that the ground truth gets wrong."""
    for task in tasks:
        simulators = Simulators(task)
        schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in task.tools_at(task.n_turns)}
        for call in (call for turn in task.ground_truth for call in turn):
            raw = simulators.call(call)
            if not raw.error:
                assert schema_advice(call, schemas[call.name]) is None or call == TEXT_ID, call
                found = hint(call, raw, task.tools_at(task.n_turns), [])
                assert found is None or found.rule in EXPECTED_SOFT, (task.id, call, raw.text, found)


TEXT_ID = ToolCall("close_ticket", {"ticket_id": "ticket_001"})
"""One scenario numbers its tickets by texts, against the schema: the one right call that the schema forbids."""
EXPECTED_SOFT = {"passport", "login_refused", "retweeted"}
"""The ground truth of five id numbers makes calls that come to nothing; what it goes on with stays right."""


def test_nothing_to_say_about_success_or_an_unexplained_failure(by_id):
    tools = by_id["multi_turn_base_0"].tools
    assert hint(ToolCall("cd", {"folder": "nowhere"}), FAILED, tools, []) is None
    assert hint(ToolCall("cd", {"folder": 5}), RawResult("{}", False), tools, []) is None


def test_what_the_error_asks_for_comes_before_a_value_out_of_range():
    """The agent fixes what the error is about; the range is explained when it becomes the error."""
    call = "setCruiseControl(speed=62.0, activate=True, distanceToNextVehicle=50.0)"
    for config, rule in (({}, "engine_off"), ({"engineState": "running"}, "multiple")):
        played = play(Failure(VEHICLE, call, config=config))
        found = hint(played.call, played.result, played.tools, played.observed)
        assert found is not None
        assert found.rule == rule


def test_a_list_offers_what_resolves_other_failures_of_the_same_tool():
    played = play(Failure(VEHICLE, "startEngine(ignitionMode='START')"))
    found = hint(played.call, played.result, played.tools, played.observed, strength=Strength.LIST)
    assert found is not None
    assert "lockDoors" in found.tools
    assert set(found.tools) <= {"lockDoors", "pressBrakePedal", "fillFuelTank", "displayCarStatus"}


def test_a_guarded_call_is_explained(by_id):
    stopped = RawResult("Error during execution: too long", True, guarded=True)
    found = hint(ToolCall("cd", {"folder": "x"}), stopped, by_id["multi_turn_base_0"].tools, [])
    assert found is not None
    assert found.rule == "guarded"


def test_the_original_error_stays(by_id):
    found = hint(ToolCall("cd", {}), FAILED, by_id["multi_turn_base_0"].tools, [])
    assert found is not None
    assert json.loads(hinted_text('{"error": "no", "code": 3}', found)) == {
        "error": "no",
        "code": 3,
        "hint": found.text,
    }
    assert json.loads(hinted_text(FAILED.text, found)) == {"error": FAILED.text, "hint": found.text}
    assert json.loads(hinted_text('["Error: no"]', found)) == {"error": '["Error: no"]', "hint": found.text}


def test_a_withheld_tool_is_not_named(by_id):
    task = by_id["multi_turn_miss_func_0"]
    found = hint(ToolCall("sorts", {}), RawResult("x", True, unknown_tool=True), task.tools_at(0), [])
    assert found is not None
    assert "sort" not in found.tools


# -- the table of rules --------------------------------------------------------------------------------------------


def test_every_row_names_tools_of_its_domain_and_is_well_formed():
    for rule in RULES:
        known = {document["name"] for document in bfcl.tool_documents()[rule.domain]}
        named = {name for _, name, _, _ in string.Formatter().parse(rule.why + rule.do) if name} - {"call", "tool"}
        assert {*rule.tools.split(), *rule.resolving, *named} <= known, rule.name
        assert ("{tool}" in rule.do) == bool(rule.resolving), rule.name
        assert not named or rule.resolving, rule.name
        assert "{tool}" not in rule.why
        assert not (set(re.findall(r"\w+", rule.do)) & (TOOLS - set(rule.tools.split()))) or rule.do.count("{") > 0
        for pattern in (rule.fails, rule.given, rule.seen):
            re.compile(pattern)
        for sentence in (rule.why, rule.do):
            assert sentence.endswith(".")
            assert not re.search(r"[.!?] ", sentence), rule.name


def test_every_row_is_used(catalogue):
    """Rows that no example of the catalogue and no missing tool ever reaches are dead weight."""
    used = set()
    for _, played in catalogue:
        rules = RULES_BY_TOOL.get(played.call.name, ())
        used |= {r for r in rules if r.matches(played.call, played.result.text, played.result.error, played.observed)}
    unused = [rule.name for rule in RULES if rule not in used]
    assert unused == []


# -- strength and purity -------------------------------------------------------------------------------------------


def both(played):
    """The hint with one tool and the hint with several."""
    return [hint(played.call, played.result, played.tools, played.observed, strength=s) for s in Strength]


def test_a_list_holds_the_one_tool(catalogue, subtests):
    for failure, played in catalogue:
        with subtests.test(failure.call):
            one, several = both(played)
            assert (one is None) == (several is None) == bool(failure.no_hint)
            if one and several:
                assert set(one.tools) <= set(several.tools)
                assert len(several.tools) == LIST_LENGTH or not one.tools


def test_the_place_in_the_list_says_nothing(catalogue):
    places = []
    for _, played in catalogue:
        one, several = both(played)
        if one and several and one.tools:
            places.append(several.tools.index(one.tools[0]))
    assert all(0.2 < places.count(place) / len(places) < 0.47 for place in range(LIST_LENGTH))


values = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4) | st.lists(st.integers(0, 3), max_size=2)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 799), st.data())
def test_pure_short_and_only_about_what_is_there(index, data):
    task = envtune.load_tasks()[index]
    tools = task.tools_at(0)
    names = [tool["function"]["name"] for tool in tools]
    name = data.draw(st.sampled_from(names) | st.text(max_size=10))
    properties = next((t["function"]["parameters"]["properties"] for t in tools if t["function"]["name"] == name), {})
    keys = st.sampled_from([*properties, "extra"])
    call = ToolCall(name, data.draw(st.dictionaries(keys, values, max_size=4)))
    before = copy.deepcopy((call, tools))
    strength = data.draw(st.sampled_from(Strength))
    first, second = hint(call, FAILED, tools, [], strength=strength), hint(call, FAILED, tools, [], strength=strength)
    assert first == second
    assert (call, tools) == before
    assert first is None or set(first.tools) <= set(names)
