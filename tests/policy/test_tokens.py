"""Continuations by tokens are what the template renders as a whole."""

from __future__ import annotations

import copy

import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st

from envtune.chat import CUT_OFF, parse_reply
from envtune.policy.miniature import miniature_tokenizer
from envtune.policy.tokens import ChatTokens, TemplateError
from envtune.types import FormatErrorKind

text = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)
results = st.lists(text.map(lambda t: {"role": "tool", "name": "ls", "content": t}), min_size=1, max_size=3)
said = st.one_of(results, text.map(lambda t: [{"role": "user", "content": t}]))


@settings(max_examples=60, deadline=None)
@given(text, st.lists(st.tuples(text, said), max_size=4), st.booleans())
def test_a_conversation_by_parts_is_the_whole(user, rounds, with_tools):
    tokens = ChatTokens(small.tokenizer())
    tools = small.TOOLS if with_tools else ()
    messages = [{"role": "user", "content": user}]
    ids = tokens.prompt(messages, tools)
    for reply, answer in rounds:
        sampled = [*small.tokenizer().encode(reply, add_special_tokens=False), tokens.end_id]
        ids += sampled + tokens.continuation(answer, sampled[-1])
        messages += [{"role": "assistant", "content": reply}, *answer]
    assert small.tokenizer().decode(ids) == small.tokenizer().apply_chat_template(
        messages, tools=list(tools) or None, add_generation_prompt=True, tokenize=False
    )
    assert ids == tokens.prompt(messages, tools)


@pytest.mark.parametrize(
    "template", ["qwen3_instruct_2507.jinja", "qwen3_instruct_2507_training.jinja", "qwen2_5.jinja"]
)
def test_templates_that_keep_prefixes(template):
    ChatTokens(miniature_tokenizer(template=template))


@pytest.mark.parametrize("template", ["qwen3.jinja", "qwen3_training.jinja", "qwen3_6.jinja"])
def test_templates_that_do_not_are_refused(template):
    with pytest.raises(TemplateError, match=r"cannot be continued by tokens.*qwen3_instruct_2507"):
        ChatTokens(miniature_tokenizer(template=template))


def test_a_template_that_refuses_results_is_one_line():
    tokenizer = miniature_tokenizer()
    refusal = "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('Only user\nand more') }}{% endif %}"
    tokenizer.chat_template = refusal + "{% endfor %}" + tokenizer.chat_template
    with pytest.raises(TemplateError, match=r"refuses messages of the roles user, assistant, tool \(Only user\)"):
        ChatTokens(tokenizer)


def test_no_template_is_refused():
    tokenizer = miniature_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(TemplateError, match="no chat template"):
        ChatTokens(tokenizer)


def test_an_unclosed_message_is_closed_by_the_environment():
    tokens = ChatTokens(small.tokenizer(), stop_ids=[small.tokenizer().pad_token_id])
    user = [{"role": "user", "content": "next"}]
    closed = tokens.continuation(user, tokens.end_id)
    for last in (300, small.tokenizer().pad_token_id):
        assert tokens.continuation(user, last) == [tokens.end_id, *closed]


def test_a_message_that_was_cut_off_is_a_format_error():
    tokens = ChatTokens(small.tokenizer())
    whole = '<tool_call>\n{"name": "ls", "arguments": {}}\n</tool_call>'
    ids = small.tokenizer().encode(whole, add_special_tokens=False)
    assert tokens.text([*ids, tokens.end_id]) == whole
    assert parse_reply(tokens.text(ids)).calls
    cut = parse_reply(tokens.text(ids, cut=True))
    assert (cut.calls, cut.error.kind) == ((), FormatErrorKind.STRUCTURE)
    assert "cut off by the length limit" in cut.error.message
    assert tokens.text(ids, cut=True) == whole + CUT_OFF


def test_a_template_that_ignores_tools_is_refused_where_there_are_tools():
    tokenizer = copy.deepcopy(small.tokenizer())
    tokenizer.chat_template = tokenizer.chat_template.replace("tools", "no_tools")
    tokens, messages = ChatTokens(tokenizer), [{"role": "user", "content": "ls, mkdir, pwd"}]
    tokens.prompt(messages)
    with pytest.raises(TemplateError, match=r"ignores `tools`: a prompt with 3 tools .* the protocol `paper`"):
        tokens.prompt(messages, small.TOOLS)
