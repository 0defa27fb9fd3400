"""Small models and tasks for the tests of the policy and of training; built once per worker."""

from __future__ import annotations

from functools import cache

from envtune.policy.miniature import miniature_model, miniature_tokenizer
from envtune.types import Category, Task, ToolCall


@cache
def tokenizer():
    """Knows the words of the template and of `TOOLS`, so that prompts stay short."""
    bare = miniature_tokenizer(vocab_size=300)
    messages = [{"role": "user", "content": "Make the directory d00."}]
    return miniature_tokenizer([bare.apply_chat_template(messages, tools=list(TOOLS), tokenize=False)] * 2)


def model(seed: int = 0, **size: int):
    import torch

    torch.set_num_threads(1)
    return miniature_model(tokenizer(), **{"hidden": 32, "layers": 2, "context": 2048, **size}, seed=seed)


def _tool(name: str, description: str, **properties: str) -> dict:
    parameters = {
        "type": "dict",
        "properties": {key: {"type": "string", "description": text} for key, text in properties.items()},
        "required": [],
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = (_tool("pwd", "Path."), _tool("mkdir", "New directory.", dir_name="name"), _tool("ls", "List."))


def task(number: int = 0, turns: int = 2) -> Task:
    """A hand-made task of one or more turns over the file system, with a short prompt."""
    calls = [ToolCall("mkdir", {"dir_name": f"d{number}{turn}"}) for turn in range(turns)]
    return Task(
        id=f"small_base_{number}",
        category=Category.BASE,
        involved_classes=("GorillaFileSystem",),
        initial_config={"GorillaFileSystem": {"root": {"home": {"type": "directory", "contents": {}}}}},
        user_turns=tuple(f"Make the directory d{number}{turn}." for turn in range(turns)),
        ground_truth=tuple((call,) for call in calls),
        tools=TOOLS,
    )
