"""How the published systems let a model play: one frozen record each.

In: a name. Out: a `Preset`, which sets the limits of an episode, how withheld tools are handed over, the temperature,
and how calls are written. `envtune evaluate POLICY --protocol NAME` plays by it and records it.

Departures, where a system's own runner does what no score should depend on, or what is not published:

- none sets the longest message. A policy here takes `max_new_tokens` of its generation config (the shipped one: 160) or
  1024 tokens, one behind a server 4096; the benchmark's own handler takes 4096 or the room left, if that is less.
- `bfcl_fc`: none known for models behind an API. The benchmark's handlers for *local* models (`base_oss_handler.py`)
  hand tools over in a user message even where the model's name ends in "-FC".
- `t3rl`: its budget of 20,000 response tokens an episode is not kept; steps are.
- `paper`: the words of the instructions are ours. Its runner goes on to the next turn after the fifth step, and asks
  again after a message that cannot be read; here the one fails the episode and the other ends the turn, as in the
  benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from envtune.types import JSON, Message

if TYPE_CHECKING:
    import pandas as pd

Calls = Literal["native", "tagged"]

INSTRUCTIONS = """You help a user by calling functions. Think first, between <think> and </think>. Then do one of two:
- call functions, each between <tool_call> and </tool_call>, as a JSON object: {{"name": NAME, "arguments": {{...}}}}
- when the request is met, or a function or a value that you need is missing, say so between <answer> and </answer>.
The results of your calls come back between <tool_response> and </tool_response>.

Functions, one JSON schema a line:
{tools}"""
"""System message for backbones without native calls."""


@dataclass(frozen=True)
class Preset:
    """The rules under which an episode is played."""

    name: str = ""
    """Empty: no published system's."""
    source: str = ""
    max_steps_per_turn: int = 20
    """Steps with calls allowed in one turn."""
    max_steps: int | None = None
    """Assistant messages allowed in one episode; None: no limit."""
    reveal: Literal["message", "recompile"] = "message"
    """How withheld tools are handed over, see `ToolUseEnv`."""
    temperature: float | None = None
    """None: not published, the policy's own counts."""
    calls: Calls = "native"
    """Whether the chat template renders tools and results, or instructions and tags in plain messages do."""

    def __post_init__(self) -> None:
        if self.calls == "tagged" and self.reveal == "recompile":
            raise ValueError("tagged calls list the tools in the first message; reveal must be 'message'")

    @property
    def record(self) -> JSON:
        """What a result says of it."""
        basics = {"hints": False, "max_steps_per_turn": self.max_steps_per_turn, "reveal": self.reveal}
        if self.name:
            return {**asdict(self), **basics}
        unusual = {"max_steps": self.max_steps, "calls": self.calls}
        return basics | {rule: value for rule, value in unusual.items() if value not in (None, "native")}

    def opening(self, messages: Sequence[Message], tools: tuple[JSON, ...]) -> tuple[list[Message], tuple[JSON, ...]]:
        """The first messages of a chat and the tools that its template renders."""
        if self.calls == "native":
            return list(messages), tools
        system = INSTRUCTIONS.format(tools="\n".join(json.dumps(tool["function"]) for tool in tools))
        return [{"role": "system", "content": system}, *messages], ()

    def shown(self, messages: Sequence[Message]) -> list[Message]:
        """What the environment says, as the agent reads it."""
        if self.calls == "native" or not messages or messages[0]["role"] != "tool":
            return list(messages)
        results = "\n".join(f"<tool_response>\n{message['content']}\n</tool_response>" for message in messages)
        return [{"role": "user", "content": results}]


PROTOCOLS = {
    preset.name: preset
    for preset in (
        Preset("bfcl_fc", "bfcl-eval 2026.3.23, base_handler.py", 20, reveal="recompile", temperature=0.001),
        Preset("t3rl", "T3RL, Qwen3-4B-EnvTuning", 10, max_steps=30),
        Preset("paper", "arXiv 2510.10197 and its released code", 5, calls="tagged"),
    )
}


def protocol(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def differences(own: Mapping[str, Preset] = MappingProxyType({})) -> pd.DataFrame:
    """A row per rule that the protocols do not share, a column per protocol; a dash where nothing is set.

    Args:
        own: rules of one's own by name, to stand in the first columns.
    """
    import pandas as pd

    columns = {name: asdict(preset) for name, preset in {**own, **PROTOCOLS}.items()}
    table = pd.DataFrame(columns, dtype=object).drop("name").replace("", None)
    table = table[[len(set(row)) > 1 for row in table.to_numpy().tolist()]]
    return table.where(table.notna(), "–").rename_axis("rule")
