"""The tiny policy: its tokenizer and template, the shipped weights, and what happens when files are damaged."""

from __future__ import annotations

import json
import re
import shutil
from functools import cache
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envtune
from envtune.data import load_tasks, synth
from envtune.environment.env import HANDOVER
from envtune.policy import load_policy
from envtune.policy.base import Chat
from envtune.policy.checkpoint import CheckpointError, folder_of, load_checkpoint, local_folder
from envtune.policy.tiny import WEIGHTS
from envtune.policy.tiny.tokenizer import make_tokenizer
from envtune.policy.tokens import ChatTokens
from envtune.types import Category

WORDS = ["cat", " cat", "category", "get_user_id", "Ka", "ra"]


@cache
def shipped():
    return load_checkpoint("tiny")


@cache
def tokenizer():
    return shipped()[1]


def round_trip(tokens, text):
    return tokens.decode(tokens.encode(text, add_special_tokens=False), clean_up_tokenization_spaces=False)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_any_text_round_trips(text):
    assert round_trip(tokenizer(), text) == text


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["cat", "egory", " ", "12", '"}}\n', "<tool_call>", "é", "Kara", "\n"]), max_size=12))
def test_words_that_overlap_round_trip(pieces):
    assert round_trip(make_words(), "".join(pieces)) == "".join(pieces)


@cache
def make_words():
    return make_tokenizer(WORDS)


def test_the_longest_word_wins_and_digits_are_split():
    tokens = make_words()
    assert tokens.tokenize("category cat") == ["category", " cat"]
    assert tokens.tokenize("Kara")[:2] == ["Ka", "ra"]
    assert len(tokens.tokenize("20024")) == 5
    with pytest.raises(ValueError, match="two digits"):
        make_tokenizer(["a12"])


def test_the_order_of_words_does_not_matter():
    assert make_tokenizer(WORDS).get_vocab() == make_tokenizer(WORDS[::-1]).get_vocab()


def test_what_the_benchmark_says_round_trips():
    for task in load_tasks("bfcl")[::80]:
        texts = [*task.user_turns, json.dumps(task.tools)]
        episode = envtune.replay(task, [[[call] for call in turn] for turn in task.ground_truth])
        texts += [result.text for step in episode.steps for result in step.results]
        for text in texts:
            assert round_trip(tokenizer(), text) == text


def signature(tool):
    """The line that the template should render, written independently of it."""
    function = tool["function"]
    parameters = function["parameters"]
    required = parameters.get("required") or []
    inside = ", ".join(
        f"{key}{'' if key in required else '?'}: {schema['type']}" for key, schema in parameters["properties"].items()
    )
    return f"{function['name']}({inside})\n"


@cache
def every_tool():
    return {tool["function"]["name"]: tool for task in load_tasks("bfcl") for tool in task.tools}


def test_tools_are_rendered_as_signatures_at_the_head_and_when_handed_over():
    assert len(every_tool()) >= 84
    for tool in every_tool().values():
        head = ChatTokens(tokenizer())._render([{"role": "user", "content": "x"}], [tool])
        assert head.startswith(f"<|im_start|>system\n{signature(tool)}<|im_end|>\n")
        message = {"role": "user", "content": f"{json.dumps(tool)}\n{HANDOVER}"}
        handed_over = ChatTokens(tokenizer())._render([message])
        assert handed_over == f"<|im_start|>user\n{signature(tool)}{HANDOVER}<|im_end|>\n"


def line(text):
    """A line of a user message: a tool that is handed over becomes its signature."""
    handed_over = text.startswith('{"type": "function"') and '"properties": {' in text
    return signature(json.loads(text)).removesuffix("\n") if handed_over else text


def prompt(messages, tools):
    """What the policy was trained to read, written independently of the template."""
    text = f"<|im_start|>system\n{''.join(map(signature, tools))}<|im_end|>\n" if tools else ""
    for role, group in groupby(messages, lambda message: message["role"]):
        said = [message["content"] for message in group]
        if role == "tool":
            role, said = "user", ["\n".join(f"<tool_response>\n{result}\n</tool_response>" for result in said)]
        elif role == "user":
            said = ["\n".join(map(line, content.split("\n"))) for content in said]
        text += "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for content in said)
    return f"{text}<|im_start|>assistant\n"


def test_a_conversation_is_read_as_in_training_byte_for_byte():
    tokens, tasks = ChatTokens(tokenizer()), [*load_tasks("bfcl")[::16], *synth.load(40, "train", 0)]
    results = 0
    for task in tasks:
        env, agent = envtune.ToolUseEnv(task, hints=True, max_steps_per_turn=4), load_policy("noisy:0.3")
        seen = env.reset()
        chat = Chat(task, list(seen.messages), seen.tools)
        while not env.done:
            said = agent.reply([chat])[0]
            chat.messages += [{"role": "assistant", "content": said}, *env.step(said).messages]
            chat.step = chat.step + 1 if env.turn == chat.turn else 0
            chat.turn = env.turn
        assert tokens._render(chat.messages, chat.tools, True) == prompt(chat.messages, chat.tools)
        results += sum(message["role"] == "tool" for message in chat.messages)
    assert results > 200


def test_a_withheld_tool_is_absent_until_it_is_handed_over():
    for task in synth.load(6, "train", 0, [Category.MISS_FUNC]):
        env = envtune.ToolUseEnv(task)
        seen = env.reset()
        (turn, [tool]) = next(iter(task.withheld.items()))
        name = rf"\b{tool['function']['name']}\b\("
        messages = list(seen.messages)
        while env.turn < turn:
            assert not re.search(name, ChatTokens(tokenizer())._render(messages, seen.tools))
            messages += [{"role": "assistant", "content": "No."}, *env.step("No.").messages]
        assert re.search(name, ChatTokens(tokenizer())._render(messages, seen.tools))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=20), st.integers(0, 3)), max_size=4))
def test_a_conversation_by_parts_is_the_whole(rounds):
    tokens = ChatTokens(tokenizer())
    messages = [{"role": "user", "content": "hello"}]
    ids = tokens.prompt(messages)
    for text, results in rounds:
        said = [{"role": "tool", "name": "ls", "content": text}] * results or [{"role": "user", "content": text}]
        sampled = [*tokenizer().encode("Done.", add_special_tokens=False), tokens.end_id]
        ids += sampled + tokens.continuation(said, sampled[-1])
        messages += [{"role": "assistant", "content": "Done."}, *said]
    assert ids == tokens.prompt(messages)


def test_the_shipped_checkpoint_is_small_and_says_how_it_was_made():
    assert (WEIGHTS / "model.safetensors").stat().st_size <= 8_000_000
    model, _, identity = shipped()
    assert 800_000 <= model.num_parameters() <= 1_300_000
    assert (model.config.model_type, model.config.tie_word_embeddings) == ("qwen3", True)
    assert len(identity["sha256"]) == 16
    card = json.loads((WEIGHTS / "card.json").read_text())
    assert card["parameters"] == model.num_parameters()
    assert {"seed", "training", "measured", "versions", "seconds"} <= card.keys()
    assert card["training"]["loss_last_50"] < card["training"]["loss_first"]


def test_it_solves_single_requests_and_declines_what_it_cannot_do():
    kinds = ["user_id", "zipcode", "symbol", "gallons", "post", "remove"]
    policy = load_policy("tiny")
    assert policy.name == "tiny"
    result = envtune.evaluate(policy, synth.load(40, "test", 3, kinds=kinds), progress=False)
    solved = result.by_category.task_accuracy
    assert solved["base"] >= 0.8
    assert solved[["miss_func", "miss_param"]].min() >= 0.2, "who calls at once solves none of these"


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(WEIGHTS, tmp_path / "policy")


def test_a_path_works_like_the_name(copy):
    policy = load_policy(copy)
    assert policy.name == copy.parent.name
    assert policy.settings["sha256"] == load_policy("tiny").settings["sha256"]


def test_a_relative_path_is_found_from_the_folders_below(copy, monkeypatch):
    """A kernel runs in notebooks/, the command line above it."""
    below = copy.parent / "notebooks"
    below.mkdir()
    monkeypatch.chdir(below)
    relative = f"{copy.parent.name}/{copy.name}"
    assert folder_of(relative).samefile(copy)
    assert load_policy(relative).settings == load_policy(copy).settings
    assert local_folder("Qwen/Qwen3-4B") is None
    (below / "tiny").mkdir()
    assert local_folder("tiny") is None, "a run of this name is not the shipped policy"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_a_missing_or_damaged_file_is_named(copy, name):
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=f"{name} is damaged") as found:
        load_policy(copy)
    assert "\n" not in str(found.value)
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        load_policy(copy)


def test_weights_that_lack_a_parameter_are_refused(copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lack 1 parameters, such as model\.norm\.weight"):
        load_policy(copy)


def test_a_tokenizer_of_other_json_is_refused(copy):
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        load_policy(copy)


def test_names_that_lead_nowhere(monkeypatch):
    import huggingface_hub

    def unreachable(*_, **__):
        raise OSError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(CheckpointError, match="'Qwen/Qwen3-4B' cannot be loaded from the Hugging Face hub") as found:
        load_policy("Qwen/Qwen3-4B")
    assert "\n" not in str(found.value)
    with pytest.raises(CheckpointError, match=r"there is no checkpoint '\./nowhere'"):
        load_policy("./nowhere")
    with pytest.raises(CheckpointError, match="there is no checkpoint 'a/b/c'"):
        folder_of("a/b/c")
