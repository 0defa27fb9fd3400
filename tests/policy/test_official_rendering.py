"""Our rendering against the benchmark's own Qwen handler, string for string, along ground-truth conversations.

Official: `QwenFCHandler._format_prompt` (`bfcl_eval/model_handler/local_inference/qwen_fc.py`). Ours: the chat template
of Qwen3-Instruct-2507 that TRL ships. Given the same messages and tools, the two strings are equal. The differences
left lie in what they are given, or in texts that no ground truth holds; a test for each:

1. Tools. The handler of local models lists the benchmark's documents as they are (`"type": "dict"`, no `"function"`
   around them); we list the schemas that the benchmark makes of them for models behind an API.
2. Withheld tools. That handler puts the documents into the user message as a Python list; `reveal="message"` puts one
   JSON schema on each line, `reveal="recompile"` puts none there and lists them with the other tools.
3. Text with calls. The handler drops the text of a message with calls. We keep the message as it was written.
4. Reasoning. The handler drops the reasoning of earlier turns and keeps that of the turn being played (the template of
   Qwen3); the 2507 template keeps every message as it was written, so that prefixes stay valid.
5. Non-ASCII characters in calls. The handler writes `\\u00e4`; we keep what the model wrote.
6. A call made twice in one message. The handler forgets the line break before the second one.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from envtune.chat import render_calls
from envtune.data import bfcl, load_tasks
from envtune.environment import ToolUseEnv
from envtune.environment.env import HANDOVER
from envtune.policy import Oracle
from envtune.policy.base import Chat
from envtune.policy.endpoint.request import Template
from envtune.policy.miniature import miniature_tokenizer
from envtune.types import JSON, Category, Message, Task, ToolCall

PER_CATEGORY = 6
TOOLS_BLOCK = re.compile(r"<tools>\n.*?\n</tools>", re.DOTALL)


@pytest.fixture(scope="module")
def handler() -> Any:
    """The two methods of the handler; its module cannot be imported without the benchmark's many requirements."""
    path = bfcl.package_dir() / "model_handler/local_inference/qwen_fc.py"
    names = ("_format_prompt", "_extract_tool_calls", "_parse_query_response_prompting")
    methods = [node for node in ast.walk(ast.parse(path.read_text())) if getattr(node, "name", None) in names]
    for method in methods:
        method.decorator_list = []  # type: ignore[attr-defined]
    scope: dict[str, Any] = {"json": json, "re": re, "Any": Any}
    exec(compile(ast.Module(methods, []), str(path), "exec"), scope)
    this = SimpleNamespace(_extract_tool_calls=scope["_extract_tool_calls"])
    return SimpleNamespace(
        prompt=lambda messages, tools: scope["_format_prompt"](this, messages, tools),
        read=lambda text: scope["_parse_query_response_prompting"](this, _response(text)),
    )


def _response(text: str) -> SimpleNamespace:
    usage = SimpleNamespace(prompt_tokens=0, completion_tokens=0)
    return SimpleNamespace(choices=[SimpleNamespace(text=text)], usage=usage)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    folder = tmp_path_factory.mktemp("tokenizer")
    miniature_tokenizer().save_pretrained(folder)
    return Template(str(folder)).render


def conversations(task: Task, reveal: Any = "recompile") -> Iterator[Chat]:
    """The chat before every message of a ground-truth episode."""
    env, oracle = ToolUseEnv(task, reveal=reveal), Oracle()
    observation = env.reset()
    chat = Chat(task, list(observation.messages), observation.tools)
    while not env.done:
        yield chat
        text = oracle.reply([chat])[0]
        observation = env.step(text)
        chat.messages += [{"role": "assistant", "content": text}, *observation.messages]
        chat.tools = observation.tools if observation.recompiled else chat.tools
        chat.step = chat.step + 1 if env.turn == chat.turn else 0
        chat.turn = env.turn


def official(handler: Any, messages: list[Message]) -> list[Message]:
    """Our messages as the handler keeps them."""
    return [
        handler.read(message["content"])["model_responses_message_for_chat_history"]
        if message["role"] == "assistant"
        else message
        for message in messages
    ]


def some(category: Category) -> list[Task]:
    tasks = load_tasks("bfcl", categories=[category])
    return tasks[:: len(tasks) // PER_CATEGORY][:PER_CATEGORY]


@pytest.mark.parametrize("category", list(Category))
def test_the_same_messages_and_tools_are_the_same_string(handler: Any, ours: Callable[..., str], category: Category):
    compared = 0
    for task in some(category):
        for chat in conversations(task):
            if _ascii(chat):
                assert ours(chat.messages, chat.tools) == handler.prompt(official(handler, chat.messages), chat.tools)
                compared += 1
    assert compared > 5 * PER_CATEGORY


def _ascii(chat: Chat) -> bool:
    """Cause 5 aside."""
    return all(m["content"].isascii() for m in chat.messages if m["role"] == "assistant")


@pytest.mark.parametrize("category", list(Category))
def test_1_documents_in_place_of_schemas(handler: Any, ours: Callable[..., str], category: Category):
    for task in some(category)[:2]:
        chat = next(iter(conversations(task)))
        theirs, mine = handler.prompt(chat.messages, documents(chat.tools)), ours(chat.messages, chat.tools)
        assert theirs != mine
        assert TOOLS_BLOCK.sub("", theirs) == TOOLS_BLOCK.sub("", mine)


def documents(tools: tuple[JSON, ...]) -> list[JSON]:
    """What the official runner hands to the handler for these tools (`_func_doc_language_specific_pre_processing`)."""
    docs = {doc["name"]: doc for group in bfcl.tool_documents().values() for doc in group}
    return [{**docs[(f := tool["function"])["name"]], "description": f["description"]} for tool in tools]


def test_2_withheld_tools(handler: Any):
    task = some(Category.MISS_FUNC)[0]
    turn = min(task.withheld)
    theirs = f"{documents(task.withheld[turn])}\n{HANDOVER}"
    said = {}
    for reveal in ("message", "recompile"):
        *_, last = conversations(task, reveal)
        said[reveal] = [m["content"] for m in last.messages if m["role"] == "user"][turn]
    assert said["recompile"] == HANDOVER
    assert said["message"].splitlines()[-1] == theirs.splitlines()[-1] == HANDOVER
    names = [json.loads(line)["function"]["name"] for line in said["message"].splitlines()[:-1]]
    assert names == [doc["name"] for doc in ast.literal_eval(theirs.splitlines()[0])]


CALL = render_calls([ToolCall("pwd", {})])
USER: Message = {"role": "user", "content": "Where am I?"}
RESULT: Message = {"role": "tool", "name": "pwd", "content": "/"}


def both(handler: Any, ours: Callable[..., str], *said: str) -> tuple[str, str]:
    messages = [USER]
    for text in said:
        messages += [{"role": "assistant", "content": text}, RESULT if CALL in text else USER]
    return handler.prompt(official(handler, messages), []), ours(messages, [])


def test_3_text_with_calls(handler: Any, ours: Callable[..., str]):
    theirs, mine = both(handler, ours, f"I look.\n{CALL}")
    assert mine.replace("I look.\n", "") == theirs


def test_4_reasoning(handler: Any, ours: Callable[..., str]):
    thought = "<think>\nHm.\n</think>\n\n"
    theirs, mine = both(handler, ours, f"{thought}{CALL}", f"{thought}There.")
    assert mine.replace(thought, "") == theirs, "an earlier turn's reasoning is dropped there"
    theirs, mine = both(handler, ours, f"{thought}{CALL}")
    assert mine == theirs, "this turn's is kept by both"


def test_5_characters_outside_ascii(handler: Any, ours: Callable[..., str]):
    theirs, mine = both(handler, ours, render_calls([ToolCall("pwd", {"x": "ä"})]) + "\n" + CALL)
    assert mine.replace("ä", "\\u00e4") == theirs


def test_6_a_call_made_twice(handler: Any, ours: Callable[..., str]):
    theirs, mine = both(handler, ours, f"{CALL}\n{CALL}")
    assert mine.replace(f"{CALL}\n{CALL}", CALL + CALL) == theirs


def test_the_template_is_the_one_that_trl_ships(ours: Callable[..., str]):
    import trl

    shipped = (Path(trl.__file__).parent / "chat_templates/qwen3_instruct_2507.jinja").read_text()
    assert "last_query_index" not in shipped, "it keeps every message as it was written"
    tokenizer: Any = miniature_tokenizer()
    for chat in conversations(some(Category.BASE)[0]):
        rendered = tokenizer.apply_chat_template(
            chat.messages, tools=list(chat.tools), chat_template=shipped, add_generation_prompt=True, tokenize=False
        )
        assert ours(chat.messages, chat.tools) == rendered
