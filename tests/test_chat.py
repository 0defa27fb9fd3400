"""The parser: what it accepts, what exactly it says is wrong, and that nothing makes it raise."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envtune.chat import MAX_CALLS, MAX_CHARS, MAX_DEPTH, MAX_DIGITS, Reply, parse_reply, render_calls
from envtune.types import FormatErrorKind, ToolCall

INVALID, STRUCTURE = FormatErrorKind.INVALID_JSON, FormatErrorKind.STRUCTURE
CD = ToolCall("cd", {"folder": "docs"})


def wrap(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


def call(arguments: str) -> str:
    return wrap(f'{{"name": "cd", "arguments": {arguments}}}')


ONE = render_calls([CD])


READABLE = [
    ("", "", 0),
    ("Done.", "Done.", 0),
    (ONE, "", 1),
    (f"{ONE}\n{ONE}", "", 2),
    (ONE + ONE, "", 2),
    (f"First I go there.\n{ONE}\nThen back.\n{ONE}\nBye", "First I go there.\n\nThen back.\n\nBye", 2),
    (ONE.replace("\n", ""), "", 1),
    (call(json.dumps('{"folder": "docs"}')), "", 1),
    ("<think>go to docs</think>\n" + ONE, "", 1),
    (f"<think>maybe {ONE}</think>\n{ONE}", "", 1),
    (f"maybe {ONE}\n</think>\n\n{ONE}", "", 1),
    (f"<think>maybe <tool_call> or</think>{ONE}<think>and {ONE}</think>ok", "ok", 1),
    (f"<think>{ONE}</think>Hello", "Hello", 0),
    ("Hello <think>and so on", "Hello", 0),
    (ONE + "<|im_end|>\n", "", 1),
    ("Done.<|im_end|><|endoftext|><|endoftext|>", "Done.", 0),
    ("1 < 2, <b>bold</b>, <tools>", "1 < 2, <b>bold</b>, <tools>", 0),
    ('{"name": "cd", "arguments": {"folder": "docs"}}', '{"name": "cd", "arguments": {"folder": "docs"}}', 0),
]


def test_reads(subtests: pytest.Subtests) -> None:
    for text, said, calls in READABLE:
        with subtests.test(ascii(text)):
            assert parse_reply(text) == Reply(said, (CD,) * calls, None)


WRONG = [
    # tags
    (ONE[:20], STRUCTURE, "call 1, char 0: unclosed <tool_call>; expected </tool_call> before the end"),
    (ONE[:-1], STRUCTURE, "call 1, char 0: unclosed"),
    (f"hi {ONE}\n<tool_call>", STRUCTURE, f"call 2, char {len(ONE) + 4}: unclosed"),
    (f"<tool_call>{ONE}", STRUCTURE, "expected </tool_call> before the next <tool_call> at char 11"),
    (f"{ONE}</tool_call>", STRUCTURE, f"char {len(ONE)}: </tool_call> closes nothing"),
    ("</tool_call>", STRUCTURE, "char 0: </tool_call> closes nothing; expected <tool_call> before it"),
    ("<think>a</think></think>", STRUCTURE, "char 16: </think> closes nothing"),
    (f"<think>hm {ONE}", STRUCTURE, "char 10: <tool_call> inside the <think> of char 0, which is never closed"),
    (call('{"folder": "</tool_call>"}'), INVALID, "call 1, char"),
    ("a<|im_end|>b", STRUCTURE, "char 1: the special token <|im_end|> may only end a message"),
    (call('{"folder": "<|im_start|>"}'), STRUCTURE, "the special token <|im_start|>"),
    ("a\ud800", STRUCTURE, "char 1: a lone surrogate (U+D800)"),
    # not JSON
    (wrap(""), INVALID, "call 1, char 13: Expecting value, found the end"),
    (wrap("cd(folder='docs')"), INVALID, 'call 1, char 12: Expecting value, found "cd(folder=\'d"'),
    (wrap('{"name": "cd" "arguments": {}}'), INVALID, "call 1, char 26: Expecting ',' delimiter, found"),
    (wrap("{'name': 'cd'}"), INVALID, "call 1, char 13: Expecting property name enclosed in double quotes"),
    (call("{}") + call("{"), INVALID, "call 2, char 99: Expecting ',' delimiter, found the end"),
    (call("{}") + wrap('{"name": "cd", "arguments": {}} {}'), INVALID, "Extra data"),
    (call('{"x": NaN}'), INVALID, "call 1: NaN is not JSON; expected a number"),
    (call('{"x": [-Infinity]}'), INVALID, "call 1: -Infinity is not JSON"),
    (call('{"x": 1e999}'), INVALID, 'call 1: the number "1e999" is out of range'),
    (call(r'{"x": "\ud83d"}'), INVALID, r"call 1: the escape \ud83d is half a character; expected a pair"),
    (call('"{folder}"'), INVALID, 'call 1, "arguments" (a string, read as JSON), char 1: Expecting property name'),
    (call('""'), INVALID, 'call 1, "arguments" (a string, read as JSON), char 0: Expecting value, found the end'),
    # not a call
    (wrap("[]"), STRUCTURE, 'call 1: expected an object {"name": ..., "arguments": {...}}, got a list'),
    (wrap('"cd"'), STRUCTURE, 'got the string "cd"'),
    (wrap("null"), STRUCTURE, "got null"),
    (wrap("{}"), STRUCTURE, 'call 1: expected the key "name", got no key at all'),
    (wrap('{"name": "cd"}'), STRUCTURE, 'call 1: expected the key "arguments", got "name"'),
    (
        wrap('{"name": "cd", "parameters": {}}'),
        STRUCTURE,
        'call 1: expected the key "arguments", got "name", "parameters"',
    ),
    (wrap('{"name": "cd", "arguments": {}, "id": 1}'), STRUCTURE, 'call 1: unexpected key "id"'),
    (wrap(json.dumps(dict.fromkeys(map(str, range(999))))), STRUCTURE, 'expected the key "name", got "0", "1"'),
    (wrap('{"name": null, "arguments": {}}'), STRUCTURE, 'expected "name" to be the name of a tool, got null'),
    (wrap('{"name": "", "arguments": {}}'), STRUCTURE, 'got the string ""'),
    (wrap('{"name": 5, "arguments": {}}'), STRUCTURE, "got a number"),
    (call("null"), STRUCTURE, 'call 1: expected "arguments" to be an object, got null'),
    (call('["docs"]'), STRUCTURE, "got a list"),
    (call("true"), STRUCTURE, "got true"),
    (call('"[1]"'), STRUCTURE, 'expected "arguments" to be an object, got a list'),
    (call('{"x": 1, "x": 2}'), STRUCTURE, 'call 1: the key "x" stands twice in one object'),
    (call('{"a": {"x": 1, "x": 1}}'), STRUCTURE, 'the key "x" stands twice'),
    # too much
    ("a" * (MAX_CHARS + 1), STRUCTURE, "the message has 1,000,001 characters; at most 1,000,000 are read"),
    (ONE * (MAX_CALLS + 1), STRUCTURE, f"char {len(ONE) * MAX_CALLS}: a message holds at most 256 calls"),
    (call('{"x": -' + "9" * (MAX_DIGITS + 1) + "}"), STRUCTURE, "call 1: an integer of 4,301 digits"),
    (wrap("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)), STRUCTURE, "call 1: nested deeper than 64 levels"),
    (wrap("[" * 100_000), STRUCTURE, "call 1: nested deeper than 64 levels"),
    (wrap('{"a":' * 150_000), STRUCTURE, "call 1: nested deeper than 64 levels"),
]


def test_says_what_is_wrong(subtests: pytest.Subtests) -> None:
    for text, kind, message in WRONG:
        with subtests.test(ascii(text)[:80]):
            reply = parse_reply(text)
            assert reply.error is not None
            assert (reply.text, reply.calls, reply.error.kind) == ("", (), kind)
            assert message in reply.error.message
            assert len(reply.error.message) < 300


def test_one_bad_call_stops_all() -> None:
    """The official handler would run the first and the last."""
    reply = parse_reply(ONE + wrap("{") + ONE)
    assert reply.calls == ()
    assert reply.error is not None


def test_bounds_are_inclusive() -> None:
    deep = {"x": json.loads("[" * (MAX_DEPTH - 2) + "]" * (MAX_DEPTH - 2))}
    for arguments in (deep, {"x": int("9" * MAX_DIGITS)}, {"x": "a" * 900_000}):
        assert parse_reply(render_calls([ToolCall("f", arguments)])).calls == (ToolCall("f", arguments),)
    assert len(parse_reply(ONE * MAX_CALLS).calls) == MAX_CALLS


def test_an_error_cannot_forge_a_message() -> None:
    reply = parse_reply(call(r'{"x": 1}').replace('"name"', r'"\u003c|im_start|>"'))
    assert reply.error is not None
    assert "<|im_start|>" not in reply.error.message


@pytest.mark.parametrize(
    "text", [" " * 999_999, "<|im_end|>" * 99_999 + "x", "<think></think>" * 60_000, "<" * 900_000]
)
def test_long_messages_are_read_in_linear_time(text: str) -> None:
    parse_reply(text)


TAGGY = ("<tool_call>", "</tool_call>", "<think>", "</think>", "<|im_end|>", "<|im_start|>", "\\", '"', "<", "\u2028")
strings = st.lists(st.sampled_from(TAGGY) | st.text(max_size=5), max_size=4).map("".join)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | strings
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(strings, v, max_size=3), max_leaves=8
)
calls = st.lists(
    st.builds(ToolCall, strings.filter(bool), st.dictionaries(strings, values, max_size=4)), min_size=1, max_size=4
)


@given(calls)
def test_round_trip(calls: list[ToolCall]) -> None:
    reply = parse_reply(render_calls(calls, "I will do it."))
    assert reply == Reply("I will do it.", tuple(calls), None)


def check_shape(reply: Reply) -> None:
    if reply.error is not None:
        assert reply.calls == ()
        assert reply.error.message
        reply.error.message.encode()
    json.dumps([c.arguments for c in reply.calls], allow_nan=False, ensure_ascii=False).encode()
    reply.text.encode()


@given(st.text(alphabet=st.characters()) | st.lists(st.sampled_from(TAGGY) | st.text(max_size=3)).map("".join))
def test_never_raises_on_any_text(text: str) -> None:
    check_shape(parse_reply(text))


@given(calls, st.data())
def test_never_raises_on_nearly_right_text(calls: list[ToolCall], data: st.DataObject) -> None:
    text = render_calls(calls)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 8)))
        text = text[:start] + data.draw(strings) + text[end:]
    check_shape(parse_reply(text))


@given(calls, st.data())
def test_a_message_cut_inside_a_call_is_unclosed(calls: list[ToolCall], data: st.DataObject) -> None:
    text = render_calls(calls)
    start = text.rindex("<tool_call>") + len("<tool_call>")
    reply = parse_reply(text[: data.draw(st.integers(start, len(text) - 1))])
    assert reply.error is not None
    assert reply.error.kind is STRUCTURE
    assert "unclosed" in reply.error.message
