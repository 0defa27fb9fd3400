"""An agent that does what a hint says, word by word, and nothing else: the test of whether the advice works.

`follow` reads the last sentence of a hint as text. Of several ways out it takes the first. It makes the calls that are
named, and repeats the failed call as the sentence says. It knows what the user wants (`Wanted`): the call that was
meant, and the other calls of the task, from which it takes names, passwords and IDs. Everything else it takes from
results. If the text leaves the decision to the user, it stops. Nothing here is shared with the rules that write hints.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from envtune.environment.hints import Hint, hint
from envtune.environment.simulator import RawResult, Simulators
from envtune.studies.belongings import belongings
from envtune.studies.literal_values import SHAPES, arguments_for, example, matches, path_like
from envtune.studies.scene import Scene
from envtune.types import ToolCall


class Outcome(StrEnum):
    """What came of following a hint."""

    WORKED = "worked"
    """The repeated call fails no longer, or fails differently."""
    SAME = "the same failure again"
    LEFT = "left to the user"
    """The text asks for something that only the user can decide or know, or says to go on without."""


@dataclass(frozen=True)
class Wanted:
    """What the user wants, as far as an agent that does its best would know it."""

    call: ToolCall | None
    """The call that was meant. None: nothing like it was wanted."""
    calls: Sequence[ToolCall]
    """The calls of the whole task."""


@dataclass
class Followed:
    """The course of following one hint."""

    outcome: Outcome = Outcome.LEFT
    made: list[ToolCall] = field(default_factory=list)
    destroyed: list[str] = field(default_factory=list)
    """What calls other than the repeated one took away."""
    named: list[str] = field(default_factory=list)
    """Tools that the text says to call."""


USER_DECIDES = re.compile(r"if the user|may go|(?<!, and )ask the user|^Ask|^Tell|^Choose|if that is what you mean")


def follow(text: str, scene: Scene, wanted: Wanted, tools: frozenset[str]) -> Followed:
    """Do what the last sentence says, on a copy of the simulators. `tools`: every name that is a tool."""
    sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z])", text)[-1]
    first, asked, choice = _first_way(text, tools)
    done = Followed(named=[*dict.fromkeys([*_asked_for(sentence, tools)[0], *_repeated(sentence)])])
    if USER_DECIDES.search(first) and not first.startswith("Check"):
        return done
    groups = [[tool] for tool in asked] if choice else [asked]
    outcomes = [_one_way(group, text, scene, wanted, done) for group in groups]
    done.outcome = next((o for o in (Outcome.WORKED, Outcome.LEFT) if o in outcomes), Outcome.SAME)
    return done


def _first_way(text: str, tools: frozenset[str]) -> tuple[str, list[str], bool]:
    """The first way out that the last sentence names, the tools that it takes, and whether they are alternatives."""
    sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z])", text)[-1]
    first = re.split(r",? or (?:call|tell|repeat|ask|go)\b", sentence)[0]
    return (first, *_asked_for(first, tools))


def _repeated(sentence: str) -> list[str]:
    return re.findall(r"[Rr]epeat (\w+)", sentence)


def _asked_for(sentence: str, tools: frozenset[str]) -> tuple[list[str], bool]:
    """The tools that are to be called, in order, and whether they are alternatives."""
    listed = re.search(r"one of (\w+(?:, \w+)* or \w+)", sentence)
    if listed:
        return re.split(r", | or ", listed[1]), True
    found = re.findall(r"(?:[Cc]all|with|then|into it with) (\w+)", sentence)
    return [name for name in dict.fromkeys(found) if name in tools], False


def _one_way(asked: list[str], text: str, scene: Scene, wanted: Wanted, done: Followed) -> Outcome:
    """Make the calls, then repeat the failed call if the sentence says so."""
    agent = _Agent(text, scene, wanted, scene.simulators.fork(), done)
    for tool in asked:
        if tool != scene.call.name:
            agent.use(tool)
    if "go to its folder" in agent.sentence:
        agent.use("cd")
    if agent.stuck:
        return Outcome.LEFT
    if not re.search(r"[Rr]epeat|[Cc]all " + re.escape(scene.call.name) + r"\b", agent.sentence):
        return Outcome.LEFT
    return agent.repeat()


_READS = re.compile(r"(get|list|view|search|display|estimate|find|check|\w+_get)_|(ls|pwd|find|displayCarStatus|cat)$")
"""Tools that change nothing."""
_TAKES_AWAY = frozenset(
    {"rm", "rmdir", "mv", "cp", "echo", "delete_message", "unfollow_user", "close_ticket", "resolve_ticket"}
    | {"edit_ticket", "cancel_order", "cancel_booking", "withdraw_funds", "fund_account", "place_order"}
    | {"remove_stock_from_watchlist", "book_flight", "purchase_insurance", "set_budget_limit"}
    | {"logout", "trading_logout"}
)
"""Tools that can take something away or spend money. For the others no look at the state is needed."""


@dataclass
class _Agent:
    """The agent at work on its copy of the world."""

    text: str
    scene: Scene
    wanted: Wanted
    world: Simulators
    done: Followed
    results: list[RawResult] = field(default_factory=list)
    looked_up: dict[str, str] = field(default_factory=dict)
    """What was looked up -> what was found."""
    stuck: bool = False
    """It cannot make a call, because it knows no arguments for it."""
    depth: int = 0
    """Hints within hints that it follows."""

    @property
    def known_calls(self) -> Sequence[ToolCall]:
        """The calls of the whole task."""
        return self.wanted.calls

    @property
    def sentence(self) -> str:
        """The first way out that the text names."""
        return _first_way(self.text, frozenset())[0]

    @property
    def a(self) -> dict[str, Any]:
        return self.scene.call.arguments

    def use(self, tool: str) -> None:
        """Call a tool as the sentence suggests, with everything that the agent knows."""
        if tool not in self.scene.schemas:
            return
        known = arguments_for(self, tool)
        self.stuck = self.stuck or not known
        for arguments in known:
            self.try_(ToolCall(tool, arguments))

    def try_(self, call: ToolCall) -> None:
        """Make a call. As long as it fails, make the calls that its hint names, and make it again."""
        for _ in range(4):
            result = self.make(call)
            found = self.hint_for(call, result)
            if not result.error or found is None or self.depth > 2:
                return
            scene = Scene(call, result, self.world, self.scene.schemas, self.scene.observed)
            sentence, asked, _ = _first_way(found.text, frozenset(self.scene.schemas))
            if USER_DECIDES.search(sentence) or not asked:
                self.stuck = True
                return
            helper = _Agent(found.text, scene, self.wanted, self.world, self.done, depth=self.depth + 1)
            for tool in asked:
                if tool != call.name:
                    helper.use(tool)
            if helper.stuck:
                self.stuck = True
                return

    def hint_for(self, call: ToolCall, result: RawResult) -> Hint | None:
        tools = [{"function": function} for function in self.scene.schemas.values()]
        return hint(call, result, tools, self.scene.observed)

    def make(self, call: ToolCall, watch: bool = True) -> RawResult:
        """Make one call, and note what it takes away."""
        watch = watch and call.name in _TAKES_AWAY
        before = belongings(self.world) if watch else None
        result = self.world.call(call)
        if before is not None:
            lost = before - belongings(self.world)
            self.done.destroyed += [f"{call.name}: {thing}" for thing in lost]
        self.done.made.append(call)
        self.results.append(result)
        values = [v for v in call.arguments.values() if isinstance(v, str)]
        if len(values) == 1 and (found := re.fullmatch(r'\{"\w+": "([^"]+)"\}', result.text)):
            self.looked_up[values[0]] = found[1]
        return result

    # -- repeating ---------------------------------------------------------------------------------------------------

    def repeat(self) -> Outcome:
        """Repeat the failed call as the sentence says."""
        call = self.scene.call
        if call.name == "cd" and (parts := self.way()):
            for part in parts[:-1]:
                self.make(ToolCall("cd", {"folder": part}))
            arguments: dict[str, Any] | None = {"folder": parts[-1]}
        else:
            arguments = self.corrected()
        if arguments is None:
            return Outcome.LEFT
        again = ToolCall(call.name, arguments)
        result = self.make(again, watch=False)
        if result.text != self.scene.result.text:
            return Outcome.WORKED
        before, after = self.hint_for(call, result), self.hint_for(again, result)
        return Outcome.SAME if before and after and before.text == after.text else Outcome.WORKED

    def way(self) -> list[str]:
        """The way to a folder that was found, or that the failed `cd` names."""
        name = str(self.a.get("folder", "")).rstrip("/")
        for result in reversed(self.results):
            for path in matches(result.text):
                if path.rsplit("/", 1)[-1] == name:
                    parts = ["/", *filter(None, path.split("/"))]
                    return parts[:-1] if "above it" in self.sentence else parts
        asked = self.a.get("folder")
        if "once for each folder" in self.sentence and isinstance(asked, str):
            return [part for part in asked.split("/") if part not in ("", ".")]
        return []

    def corrected(self) -> dict[str, Any] | None:
        """The arguments of the repeated call, or None if the agent cannot know them."""
        said = self.sentence
        told = re.search(r"(?:[Rr]epeat|[Cc]all) " + re.escape(self.scene.call.name) + r"(.*)", said)
        how = told[1] if told else ""
        arguments = dict(self.a)
        if "without any argument" in how:
            return {}
        if only := re.search(r"with (.+) only", how):
            allowed = re.split(r", | and ", only[1])
            arguments = {key: value for key, value in arguments.items() if key in allowed}
            return self.meant(arguments, set(self.missing(arguments)))
        if re.search(r"with (it|them), and ask the user", how):
            return self.meant(arguments, set(self.missing(arguments)))
        if such := re.search(r"such a value for (\w+)", how):
            return self.meant(arguments, {such[1]})
        if "name alone" in how:
            alone = {k: v.rstrip("/").rsplit("/", 1)[-1] for k, v in arguments.items() if path_like(k, v)}
            return {**arguments, **alone}
        if (better := self.better(arguments)) is not None:
            return better
        must_change = re.search(r"\bwith\b|path|twice", how) or "if one is wrong" in said
        only_read = "one of" in said and all(_READS.match(call.name) for call in self.done.made[-len(self.results) :])
        return None if must_change or only_read or self.found_nothing() else arguments

    def found_nothing(self) -> bool:
        """Whether what the agent looked up is an empty list."""
        return any(re.search(r"(\[\]|\{\})\}?$", result.text) for result in self.results)

    def missing(self, arguments: dict[str, Any]) -> list[str]:
        required = self.scene.schemas[self.scene.call.name]["parameters"].get("required", [])
        return [name for name in required if name not in arguments]

    def meant(self, arguments: dict[str, Any], names: set[str]) -> dict[str, Any]:
        """`arguments` with the named ones as they were meant, else as the schema allows."""
        meant = self.wanted.call.arguments if self.wanted.call else {}
        for name in names:
            schema = self.scene.properties.get(name, {"type": "string"})
            changed = name in meant and meant[name] != self.a.get(name)
            used = [value for key, value in self.a.items() if key != name]
            arguments[name] = meant[name] if changed else example(schema, used)
        return arguments

    def better(self, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """`arguments` with what the agent meant or found out. None: it knows nothing better."""
        if "fuelAmount" in arguments and any("fuelLevel" in result.text for result in self.results):
            return {"fuelAmount": next(self.found("fuelAmount", 0.0))}
        meant = self.wanted.call
        if meant is not None and meant.name == self.scene.call.name and meant.arguments != self.a:
            return dict(meant.arguments)
        codes = {key: self.looked_up.get(v, v) if isinstance(v, str) else v for key, v in arguments.items()}
        if codes != arguments:
            return codes
        if "greater than zero" in self.text:
            return {key: 1 if isinstance(v, int | float) and v <= 0 else v for key, v in arguments.items()}
        for key, value in arguments.items():
            for other in self.found(key, value):
                if other != value:
                    return {**arguments, key: other}
        return None

    def found(self, key: str, value: Any) -> Iterator[Any]:
        """Values for an argument that stand in the results and in the error."""
        texts = [result.text for result in [*reversed(self.results), self.scene.result]]
        if key == "access_token":
            texts += reversed(self.scene.observed)
        if key == "fuelAmount" and (level := re.search(r'"fuelLevel": ([\d.]+)', texts[0])):
            yield math.floor(500 - 10 * float(level[1])) / 10
        shape = SHAPES.get(key)
        for text in texts if shape else ():
            for hit in re.findall(shape or "", text):
                yield int(hit) if isinstance(value, int) and hit.isdigit() else hit
