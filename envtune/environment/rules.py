"""The rules of an episode: one frozen record, and the rules of the published systems by name.

In: fields, or a published name. Out: `Rules`, which the environment, evaluations and training stages all take. `envtune
evaluate POLICY --protocol NAME` plays by published rules and records them.

Departures from the systems' own runners:

- No rules bound the length of a message. A policy here takes `max_new_tokens` of its generation config (the shipped
  one: 160) or 1024 tokens, one behind a server 4096. The benchmark's own handler takes 4096 or the room left, if that
  is less.
- `bfcl_fc`: no departure is known for models behind an API. The benchmark's handlers for *local* models
  (`base_oss_handler.py`) hand tools over in a user message even where the model's name ends in "-FC".
- `t3rl`: its limits on steps are kept, its budget of 20,000 response tokens an episode is not.
- `paper`: the words of the instructions are ours. Its runner goes on to the next turn after the fifth step, and asks
  again after a message that cannot be parsed. Here, as in the benchmark, a step beyond the limit fails the episode, and
  such a message ends the turn.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from envtune.environment.hints import Strength
from envtune.types import JSON, Message

if TYPE_CHECKING:
    import pandas as pd

Calls = Literal["native", "tagged"]
Reveal = Literal["message", "recompile"]

INSTRUCTIONS = """You help a user by calling functions. Think first, between <think> and </think>. Then do one of two:
- call functions, each between <tool_call> and </tool_call>, as a JSON object: {{"name": NAME, "arguments": {{...}}}}
- when the request is met, or a function or a value that you need is missing, say so between <answer> and </answer>.
The results of your calls come back between <tool_response> and </tool_response>.

Functions, one JSON schema a line:
{tools}"""
"""System message for backbones without native calls."""


HELP = ("hint_rate", "hint_strength", "turn_feedback")
"""The rules that tune the environment. Evaluations leave them at their defaults and do not record them."""


@dataclass(frozen=True)
class Rules:
    """How an episode is played. The defaults are the benchmark's limits, without hints.

    Raises:
        ValueError: a field out of its range.
    """

    max_steps_per_turn: int | None = 20
    """Steps with calls allowed in one turn: the paper 5, T3RL 10, official 20. None: no limit."""
    max_steps: int | None = None
    """Assistant messages allowed in one episode: T3RL 30. None: no limit."""
    reveal: Reveal = "message"
    """How withheld tools are handed over: in a user `message`, or by `recompile`d tool list."""
    calls: Calls = "native"
    """`native`: the chat template renders tools and results. `tagged`: instructions and tags in plain messages do."""
    tool_seed: int | None = None
    """Shuffles the tool documents that the agent reads, each task in its own way. None: the benchmark's order."""
    hint_rate: float = 0.0
    """Share of the failures that get a hint. Drawn once per tool and turn: if it were drawn for every call, an agent
    would learn to fail again until a hint comes."""
    hint_strength: Strength = Strength.ONE
    """Whether a hint names the one tool that resolves the failure, or a short list."""
    turn_feedback: bool = False
    """After a turn in which the agent acted although no call was expected, say so before the next user message. For
    training only: nothing else tells the agent anything about the ground truth."""
    temperature: float | None = None
    """Temperature at which a language model samples. None: the policy's own."""
    name: str = ""
    """Name of a published system, or empty."""
    source: str = ""

    def __post_init__(self) -> None:
        choices = {"reveal": Reveal, "calls": Calls}
        problems = [
            *(_choice(name, getattr(self, name), get_args(kind)) for name, kind in choices.items()),
            *(_limit(name, getattr(self, name)) for name in ("max_steps_per_turn", "max_steps")),
            (
                self.tool_seed is not None and type(self.tool_seed) is not int,
                f"tool_seed is {self.tool_seed!r}. It must be a whole number, or None",
            ),
            (not 0 <= self.hint_rate <= 1, f"hint_rate is {self.hint_rate}. It must be a probability, from 0 to 1"),
            (
                self.calls == "tagged" and self.reveal == "recompile",
                "tagged calls list the tools in the first message, so reveal must be 'message'",
            ),
        ]
        if found := [text for wrong, text in problems if wrong]:
            raise ValueError(found[0])
        object.__setattr__(self, "hint_strength", Strength(self.hint_strength))

    @property
    def judged(self) -> Rules:
        """The same limits as an evaluation plays by: greedy, without hints, without feedback."""
        defaults = {name: getattr(Rules, name) for name in HELP}
        return replace(self, temperature=0.0, **defaults)

    @property
    def helps(self) -> bool:
        """Whether the environment says more than the benchmark does."""
        return self.hint_rate > 0 or self.turn_feedback

    @property
    def record(self) -> JSON:
        """The rules as a result records them."""
        basics = {"hints": False, "max_steps_per_turn": self.max_steps_per_turn, "reveal": self.reveal}
        order = {} if self.tool_seed is None else {"tool_seed": self.tool_seed}
        if self.name:
            fixed = {name: value for name, value in asdict(self).items() if name not in (*HELP, "tool_seed")}
            return fixed | basics | order
        unusual = {"max_steps": self.max_steps, "calls": self.calls}
        return basics | {rule: value for rule, value in unusual.items() if value not in (None, "native")} | order

    def ordered(self, tools: tuple[JSON, ...], task_id: str) -> tuple[JSON, ...]:
        """The same tools in the order in which the agent of this task reads them.

        A tool keeps its place among the others when more of them are handed over.
        """
        if self.tool_seed is None:
            return tools
        where = f"{self.tool_seed}/{task_id}"
        return tuple(sorted(tools, key=lambda tool: random.Random(f"{where}/{tool['function']['name']}").random()))

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


def _choice(name: str, value: str, known: tuple[str, ...]) -> tuple[bool, str]:
    return value not in known, f"{name} is {value!r}. It must be {' or '.join(map(repr, known))}"


def _limit(name: str, value: int | None) -> tuple[bool, str]:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value is not None and not (whole and value >= 1), f"{name} is {value!r}. It must be at least 1, or None"


DEFAULT = Rules()
_PUBLISHED = (
    Rules(20, reveal="recompile", temperature=0.001, name="bfcl_fc", source="bfcl-eval 2026.3.23, base_handler.py"),
    Rules(10, max_steps=30, name="t3rl", source="T3RL, Qwen3-4B-EnvTuning"),
    Rules(5, calls="tagged", name="paper", source="arXiv 2510.10197 and its released code"),
)
PROTOCOLS: Mapping[str, Rules] = MappingProxyType({rules.name: rules for rules in _PUBLISHED})
"""The rules of the published systems."""


def rules_of(rules: Rules | str | None = None, **changes: Any) -> Rules:
    """Rules by name or as they are, with some fields replaced.

    Args:
        rules: a record, a name of `PROTOCOLS`, or None: the defaults.
        changes: fields of `Rules`, where `hints=True` stands for `hint_rate=1.0`, `hints=False` for `hint_rate=0.0`.
            The changed rules of a published system no longer carry its name.

    Raises:
        ValueError: no such protocol, or a value out of its range.
        TypeError: no such field, or `rules` or `hints` of another type.
    """
    if not isinstance(rules, Rules | str | None):
        raise TypeError(f"rules are {rules!r}. They must be Rules, or one of {', '.join(PROTOCOLS)}")
    if isinstance(rules, str):
        if rules not in PROTOCOLS:
            raise ValueError(f"unknown protocol {rules!r}. Known: {', '.join(PROTOCOLS)}")
        rules = PROTOCOLS[rules]
    if "hints" in changes:
        hints = changes.pop("hints")
        if not isinstance(hints, bool):
            raise TypeError(f"hints is {hints!r}. It must be True or False. A share of the failures is `hint_rate`")
        changes = {"hint_rate": 1.0, **changes} if hints else {**changes, "hint_rate": 0.0}
    if not changes:
        return rules or DEFAULT
    known = [field.name for field in fields(Rules)]
    if unknown := [name for name in changes if name not in known]:
        raise TypeError(f"there is no rule {unknown[0]!r}. Known: hints, {', '.join(known)}")
    changed = replace(rules or DEFAULT, **changes)
    return changed if changed == rules else replace(changed, name="", source="")


def differences(own: Mapping[str, Rules] = MappingProxyType({})) -> pd.DataFrame:
    """One row per rule in which the protocols differ, one column per protocol. A dash: not set.

    Args:
        own: rules of one's own by name, for the first columns.
    """
    import pandas as pd

    columns = {name: asdict(rules) for name, rules in {**own, **PROTOCOLS}.items()}
    table = pd.DataFrame(columns, dtype=object).drop("name").replace("", None)
    table = table[[len(set(row)) > 1 for row in table.to_numpy().tolist()]]
    return table.where(table.notna(), "–").rename_axis("rule")
