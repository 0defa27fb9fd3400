"""Dialogues that a stand-in for an instruct model has seen: single requests, solved on the real simulators.

In: a random generator. Out: `Dialogue`s. Every assistant message in them is an example. The package's docstring says
what they contain.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from envtune.chat import render_calls
from envtune.data import bfcl, synth
from envtune.data.synth import WAIT, Instance
from envtune.data.synth_kinds import KINDS
from envtune.environment import ToolUseEnv
from envtune.types import JSON, Category, Message, Task, ToolCall

DONE = "Done."
NO_TOOL = "No tool for this is available."
NO_VALUE = "Please tell me the missing value."
FAILED = "That did not work."
ANSWERS = (DONE, NO_TOOL, NO_VALUE, FAILED)
"""The policy's messages without a tool call."""

SINGLES = tuple(kind.name for kind in KINDS.values() if kind.train and not kind.chain)
BLOCK = 256
"""Instances generated at a time."""


@dataclass
class Dialogue:
    """A conversation and the tools at its head."""

    tools: tuple[JSON, ...]
    messages: list[Message] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Add an assistant message."""
        self.messages.append({"role": "assistant", "content": text})


def parse(task: Task, text: str) -> ToolCall:
    """A call written as in the benchmark's ground truth."""
    return bfcl.parse_call(text, _documents(task.involved_classes))


@cache
def _documents(classes: tuple[str, ...]) -> dict[str, JSON]:
    documents = bfcl.tool_documents()
    return {document["name"]: document for cls in classes for document in documents[cls]}


def solved(instance: Instance) -> Dialogue | None:
    """Every turn solved or declined, up to the first chain. There the goal is called at once, and the dialogue ends.
    None if the simulators refuse what should solve a turn."""
    task = instance.task()
    env = ToolUseEnv(task)
    seen = env.reset()
    dialogue = Dialogue(seen.tools, list(seen.messages))
    for turn, kind in enumerate(task.kinds):
        if kind == WAIT:
            reply = NO_TOOL if task.category is Category.MISS_FUNC else NO_VALUE
        elif instance.naive[turn]:
            dialogue.say(render_calls([parse(task, instance.naive[turn])]))
            return dialogue
        else:
            for call in task.ground_truth[turn]:
                reply = render_calls([call])
                dialogue.say(reply)
                results = env.step(reply).messages
                if any(result.error for result in env.episode.steps[-1].results):
                    return None
                dialogue.messages += results
            reply = DONE
        dialogue.say(reply)
        dialogue.messages += env.step(reply).messages
    return dialogue


class Source:
    """An endless stream of train-split instances of some kinds and categories."""

    def __init__(self, kinds: Sequence[str] | None, categories: Sequence[Category], seed: int | str) -> None:
        self._kinds, self._categories, self._seed = kinds, categories, seed
        self._left: list[Instance] = []
        self._rng = random.Random(f"cold start {kinds} {categories} {seed}")

    def next(self) -> Instance:
        """Another one."""
        if not self._left:
            number = self._rng.randrange(1_000, 1_000_000)  # far from the seeds of training tasks
            self._left = synth.generate(BLOCK, "train", number, self._categories, self._kinds)
        return self._left.pop()
