"""The tiny policy in other programs: OpenAI's messages, the library's pipeline, TRL, transformers 4.57."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError
from transformers import AutoConfig, pipeline

import envtune
from envtune.chat import parse_reply, render_calls
from envtune.data import synth
from envtune.policy import load_policy
from envtune.policy.base import Chat
from envtune.policy.checkpoint import load_checkpoint, load_tokenizer
from envtune.policy.miniature import miniature_tokenizer
from envtune.policy.portable import OLDEST, make_portable
from envtune.policy.tiny import WEIGHTS
from envtune.policy.tiny.model import make_model
from envtune.policy.tiny.tokenizer import make_tokenizer
from envtune.types import ToolCall

USER = {"role": "user", "content": "Go."}
TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<b>"]
text = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(TAGS)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
calls = st.builds(ToolCall, text.filter(bool), st.dictionaries(text, values, max_size=3))


@cache
def tokenizer() -> Any:
    return load_tokenizer("tiny")


def render(*messages: dict[str, Any], tools: Any = None) -> str:
    return str(tokenizer().apply_chat_template(list(messages), tools=tools, tokenize=False))


def as_openai(said: str | None, called: list[ToolCall], as_text: bool) -> dict[str, Any]:
    """The message of a chat client, whose arguments are a structure or JSON text."""
    asked = [
        {"name": c.name, "arguments": json.dumps(c.arguments, ensure_ascii=False) if as_text else c.arguments}
        for c in called
    ]
    structures = [{"id": str(i), "type": "function", "function": function} for i, function in enumerate(asked)]
    return {"role": "assistant", "content": said, "tool_calls": structures}


@settings(max_examples=150, deadline=None)
@given(st.none() | st.just("") | st.text(st.characters(codec="utf-8"), max_size=8), st.lists(calls), st.booleans())
def test_calls_are_rendered_as_the_policy_writes_them(said, called, as_text):
    written = {"role": "assistant", "content": render_calls(called, said or "")}
    assert render(USER, as_openai(said, called, as_text), USER) == render(USER, written, USER)


def test_contents_of_other_shapes():
    parts = [{"type": "text", "text": "G"}, {"type": "text", "text": "o."}]
    for role in ("system", "user", "tool", "assistant"):
        assert render({"role": role, "content": parts}) == render({"role": role, "content": "Go."})
        assert render({"role": role, "content": None}) == render({"role": role, "content": ""})
        assert "None" not in render({"role": role, "content": None})
    with pytest.raises(TemplateError, match="reads text only"):
        render({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]})


def test_tools_of_other_shapes():
    properties = {"a": {"type": ["string", "null"]}, "b": {"anyOf": [{"type": "string"}]}, "c": {"type": "integer"}}
    function = {"name": "f", "parameters": {"type": "object", "properties": properties, "required": ["c"]}}
    rendered = render(USER, tools=[{"type": "function", "function": {"name": "now"}}, function])
    assert "now()\nf(a?: string|null, b?: any, c: integer)\n" in rendered


def test_trl_takes_the_templates_and_reads_calls_back():
    from trl.chat_template_utils import is_chat_template_prefix_preserving, parse_response, supports_tool_calling

    for each in (tokenizer(), miniature_tokenizer()):
        assert supports_tool_calling(each)
        assert is_chat_template_prefix_preserving(each)
    called = [ToolCall("mkdir", {"dir_name": "</tool_call>"}), ToolCall("ls", {})]
    prefix = tokenizer().encode(f"{render(USER)}<|im_start|>assistant\n")
    for said, asked in (("", called), ("I do.", called), ("Done.", [])):
        ids = tokenizer().encode(f"{render_calls(asked, said)}<|im_end|>")
        found = parse_response(tokenizer(), ids, prefix)
        assert found["content"] == said
        functions = [call["function"] for call in found.get("tool_calls", [])]
        assert [ToolCall(f["name"], f["arguments"]) for f in functions] == asked


def mkdir(dir_name: str) -> dict[str, Any]:
    """Create a directory.

    Args:
        dir_name: its name.
    """
    return {"created": dir_name}


def test_trl_trains_it_with_tools(tmp_path):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    model, tokens, _ = load_checkpoint("tiny")
    data = Dataset.from_list([{"prompt": [{"role": "user", "content": "i want the new folder club1"}]}])
    batch: dict[str, Any] = {"per_device_train_batch_size": 2, "num_generations": 2, "max_completion_length": 80}
    place: dict[str, Any] = {"use_cpu": True, "save_strategy": "no", "report_to": [], "disable_tqdm": True}
    config = GRPOConfig(str(tmp_path), max_steps=1, temperature=0.01, **batch, **place)
    seen: list[Any] = []

    def reward(completions: list[Any], **_: Any) -> list[float]:
        seen.extend(completions)
        return [1.0] * len(completions)

    GRPOTrainer(model, reward, config, data, processing_class=tokens, tools=[mkdir]).train()
    for completion in seen:
        call, result, answer = completion
        assert call["tool_calls"][0]["function"] == {"name": "mkdir", "arguments": {"dir_name": "club1"}}
        assert (result["role"], answer["content"]) == ("tool", "Done.")


def test_the_pipeline_calls_tools_and_reads_its_own_calls():
    policy, task = load_policy("tiny"), synth.load(1, "test", 0)[0]
    pipe = pipeline("text-generation", model=str(WEIGHTS))
    env = envtune.ToolUseEnv(task)
    chat: list[Any] = list(env.reset().messages)
    here = Chat(task, list(chat), task.tools)
    for expects_calls in (True, False):
        chat = pipe(chat, tools=list(task.tools), do_sample=False)[0]["generated_text"]
        said = policy.reply([here])[0]
        reply, functions = parse_reply(said), [call["function"] for call in chat[-1].get("tool_calls", [])]
        assert [ToolCall(f["name"], f["arguments"]) for f in functions] == list(reply.calls)
        assert (chat[-1]["content"], bool(reply.calls)) == (reply.text, expects_calls)
        messages = env.step(said).messages
        chat += messages
        here.messages += [{"role": "assistant", "content": said}, *messages]


def saved(folder: Path, config: Any, tokens: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two files that `make_portable` changes."""
    config.save_pretrained(folder)
    tokens.save_pretrained(folder)
    make_portable(folder)
    files = [json.loads((folder / name).read_text()) for name in ("config.json", "tokenizer_config.json")]
    return files[0], files[1]


def test_the_shipped_files_are_what_a_build_writes(tmp_path):
    made = make_tokenizer(["word"])
    config, _ = saved(tmp_path, make_model(made).config, made)
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (WEIGHTS / name).read_bytes(), name
    shipped = json.loads((WEIGHTS / "config.json").read_text())
    assert shipped | config == {**shipped, **{key: config[key] for key in ("vocab_size", "transformers_version")}}
    assert json.loads((WEIGHTS / "card.json").read_text())["requires"] == {"transformers": f">={OLDEST}"}


def test_what_is_trained_from_it_keeps_its_templates(tmp_path):
    _, written = saved(tmp_path, AutoConfig.from_pretrained(WEIGHTS), tokenizer())
    again: Any = load_tokenizer(str(tmp_path))
    for key in ("chat_template", "response_template", "all_special_tokens", "model_max_length"):
        assert getattr(again, key) == getattr(tokenizer(), key)
    assert written["tokenizer_class"] == "PreTrainedTokenizerFast", "version 4 knows it by this name"
    assert "extra_special_tokens" not in written, "version 4 expects an object there"


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024, "rope_theta": 5e6}


@pytest.mark.parametrize("rope", [{"rope_type": "default", "rope_theta": 1000.0}, YARN])
def test_the_older_form_alone_says_the_same(tmp_path, rope):
    """Version 5 still reads the form of version 4, which ignores `rope_parameters`."""
    config = AutoConfig.for_model("qwen3", max_position_embeddings=4096, rope_parameters=dict(rope))
    written, _ = saved(tmp_path, config, miniature_tokenizer())
    assert AutoConfig.from_pretrained(tmp_path).rope_parameters == config.rope_parameters == rope
    del written["rope_parameters"]
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert AutoConfig.from_pretrained(tmp_path).rope_parameters == rope
