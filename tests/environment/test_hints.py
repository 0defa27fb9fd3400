"""Hints from the schemas: what they say, that they are pure, and that they name only what is there."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envtune
from envtune.environment.hints import hint, hinted_text
from envtune.environment.simulator import RawResult
from envtune.types import ToolCall

FAILED = RawResult("Error during execution: it failed", True)


@pytest.mark.parametrize(
    ("call", "rule", "text"),
    [
        (ToolCall("CD", {}), "unknown_tool", "There is no tool 'CD'. The nearest available one is cd."),
        (
            ToolCall("fs.mkdirs", {}),
            "unknown_tool",
            "There is no tool 'fs.mkdirs'. The nearest available one is mkdir.",
        ),
        (ToolCall("zzzz", {}), "unknown_tool", "There is no tool 'zzzz'. Choose one from the list of tools."),
        (ToolCall("cd", {}), "missing_argument", "cd also needs folder (string)."),
        (ToolCall("mv", {}), "missing_argument", "mv also needs source (string) and destination (string)."),
        (ToolCall("cd", {"dir": "a"}), "unknown_argument", "cd has no argument dir. cd takes folder."),
        (ToolCall("pwd", {"a": 1, "b": 2}), "unknown_argument", "pwd has no argument a and b. pwd takes no argument."),
        (ToolCall("cd", {"folder": 5}), "argument_type", "folder must be of type string, not integer."),
        (
            ToolCall("tail", {"file_name": "a", "lines": True}),
            "argument_type",
            "lines must be of type integer, not boolean.",
        ),
        (
            ToolCall("post_tweet", {"content": "a", "tags": ["a", None]}),
            "argument_type",
            "Every item of tags must be of type string, not null.",
        ),
    ],
)
def test_schema_rules(by_id, call, rule, text):
    found = hint(call, FAILED, by_id["multi_turn_base_0"].tools, [])
    assert found is not None
    assert (found.rule, found.text) == (rule, text)


def test_nothing_to_say_about_a_well_formed_call(by_id):
    assert hint(ToolCall("cd", {"folder": "nowhere"}), FAILED, by_id["multi_turn_base_0"].tools, []) is None


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
    assert "one is sort." not in found.text


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
    first, second = hint(call, FAILED, tools, []), hint(call, FAILED, tools, [])
    assert first == second
    assert (call, tools) == before
    if first is not None and "nearest" in first.text:
        assert first.text.rstrip(".").split()[-1] in names
