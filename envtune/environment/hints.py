"""Hints: they turn a vague failure into a correction that can be acted on.

`hint(call, result, tools, observed)` is a pure function of what the agent did and could see: the call, its raw result,
the tool schemas now available, and the texts shown so far. It never sees the ground truth or a simulator's private
state. So a hint only says what a careful reader of the schemas and the error could have found out. Source: arXiv
2510.10197, section 3 (actionable environment augmentation). The released code edits copies of the simulators instead.
Those edits cannot be switched off and also change the ground truth's responses.

Rules that follow from the schemas alone come first (`hint_schema`), then one table of rules by domain (`hint_rules`).
A wrong value waits only where the error asks for another tool first (log in, start the engine, look up an ID). A hint
is at most two sentences: what is wrong, and what to do next. It names only tools in the current list. Both are true:
`studies.hint_truth` checks the claim against the simulator and follows the advice.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from envtune.display.messages import hint_view
from envtune.display.view import shown
from envtune.environment.guards import exceeded
from envtune.environment.hint_names import nearest
from envtune.environment.hint_rules import DESTRUCTIVE, RULES_BY_TOOL, Rule, resolvers
from envtune.environment.hint_schema import DEFERRED, SHAPE, Advice, canonical, listed, schema_advice, value_advice
from envtune.types import JSON, ToolCall


class Strength(StrEnum):
    """How much a hint gives away about the tool that resolves a failure. Corrections of arguments do not depend on it.

    The stage of training chooses it. An agent that is told the one tool can follow without learning when to use it.
    """

    ONE = "one"
    """It names the tool, and how to call it."""
    LIST = "list"
    """It lists three tools, one of them the right one, in an uninformative order."""


LIST_LENGTH = 3


class RawError(Protocol):
    """The result that a hint explains."""

    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def error(self) -> bool: ...  # noqa: D102
    @property
    def guarded(self) -> bool: ...  # noqa: D102
    @property
    def unknown_tool(self) -> bool: ...  # noqa: D102


@shown(hint_view)
@dataclass(frozen=True, slots=True)
class Hint:
    """A correction: which rule gave it, and what the agent reads."""

    rule: str
    text: str
    tools: tuple[str, ...] = ()
    """The tools offered to resolve the failure: one, or a list that contains it."""


def hint(
    call: ToolCall,
    result: RawError,
    tools: Sequence[JSON],
    observed: Sequence[str],
    *,
    strength: Strength = Strength.ONE,
) -> Hint | None:
    """The correction for a failed call, or None if the call did not fail or no rule applies.

    A call without an error may have failed all the same ("soft": a login refused, a city unknown). Then only those
    rules of the domains apply that are marked soft.

    Args:
        call: what the agent asked for.
        result: the raw result, as the benchmark words it.
        tools: JSON schemas of the tools now available.
        observed: the texts shown to the agent so far: user messages and results.
        strength: name the one tool that resolves the failure, or a short list.
    """
    rules = RULES_BY_TOOL.get(call.name, ())
    matching = [rule for rule in rules if rule.matches(call, result.text, result.error, observed)]
    if not (result.error or matching):
        return None
    schemas: dict[str, JSON] = {tool["function"]["name"]: tool["function"] for tool in tools}
    if call.name not in schemas:
        return _unknown_tool(call, schemas, strength) if result.unknown_tool else _withheld_tool(call)
    parameters = schemas[call.name]["parameters"]
    advice = schema_advice(call, parameters) if result.error else value_advice(call, parameters)
    if advice is not None and not _waits(advice, matching):
        return _plain(advice)
    if result.guarded:
        return _guarded(call, result.text)
    return _from_rules(matching, call, schemas, strength) if matching else None


def _waits(advice: Advice, matching: Sequence[Rule]) -> bool:
    """Whether a call fails first for a reason that another tool resolves, and only then for a wrong value."""
    if advice.rule in SHAPE:
        return False
    return any(rule.state or (rule.resolving and not rule.soft and advice.rule in DEFERRED) for rule in matching)


def _guarded(call: ToolCall, text: str) -> Hint:
    """The exceeded bound and the way out, as the guard words them."""
    if (said := exceeded(text)) is None:
        return Hint("guarded", f"The call was stopped before it ran. Repeat {call.name} with plain names and values.")
    bound, _, way_out = said.partition("; ")
    return Hint("guarded", f"{bound[0].upper()}{bound[1:]}. {way_out[0].upper()}{way_out[1:]}.")


def hinted_text(text: str, found: Hint) -> str:
    """The result that the agent reads: the original and the hint, as JSON."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        value = {"error": text}
    return json.dumps({**value, "hint": found.text})


def _plain(advice: Advice) -> Hint:
    return Hint(advice.rule, f"{advice.why} {advice.do}")


def _withheld_tool(call: ToolCall) -> Hint:
    """The tool runs, but it is not in the list."""
    return Hint("withheld_tool", f"No tool {call.name!r} is available now. Tell the user so, or go on without it.")


def _unknown_tool(call: ToolCall, schemas: dict[str, JSON], strength: Strength) -> Hint:
    """The nearest names in the list of tools."""
    near = nearest(call, schemas)[: 1 if strength is Strength.ONE else LIST_LENGTH]
    why = f"There is no tool {call.name!r} in the list." if re.fullmatch(r"[\w.-]{1,60}", call.name) else _NO_TOOL
    if not near:
        return Hint("unknown_tool", f"{why} Choose one from the list of tools, or tell the user that none does it.")
    offered = tuple(_shuffled(near, call, "order"))
    phrase = offered[0] if len(offered) == 1 else f"one of {listed(offered, 'or')}"
    do = f"Call {phrase} if that is what you mean, or tell the user that no available tool does it."
    return Hint("unknown_tool", f"{why} {do}", offered)


_NO_TOOL = "There is no tool of that name in the list."


def _from_rules(matching: Sequence[Rule], call: ToolCall, schemas: dict[str, JSON], strength: Strength) -> Hint:
    """The hint of the first rule whose tools are available. If there is none, a hint that the tool is missing."""
    available = schemas.keys() - {call.name}
    usable = (rule for rule in matching if rule.needs <= schemas.keys() and _resolving(rule, available))
    rule = next(usable, None)
    if rule is None:
        return Hint(matching[0].name, f"{matching[0].why.format(call=call.name)} {_NOT_AVAILABLE}")
    why = rule.why.format(call=call.name)
    if not rule.resolving:
        return Hint(rule.name, f"{why} {rule.do.format(call=call.name)}")
    right = next(tool for tool in rule.resolving if tool in available)
    offered = (right,) if strength is Strength.ONE else _candidates(rule, right, call, schemas)
    if strength is Strength.LIST and rule.vague:
        why = rule.vague
    do = rule.do if len(offered) == 1 else _vaguely(rule.do)
    tool = right if len(offered) == 1 else f"one of {listed(offered, 'or')}"
    return Hint(
        rule.name, f"{why} {do.format(call=call.name, tool=tool, **{name: name for name in rule.needs})}", offered
    )


def _resolving(rule: Rule, available: Set[str]) -> bool:
    return not rule.resolving or not available.isdisjoint(rule.resolving)


def _vaguely(do: str) -> str:
    """What to do with one of several tools: without what tells the right one from the others.

    A tool that is the second choice, or that takes the user's consent, stays so.
    """
    if not do.startswith(("Call {tool}", "Go to", "Go into")) or re.search("if the user (agrees|wants)|may go", do):
        return do
    if re.search(r"repeat \{call\}|that it returns", do):
        return "Call {tool}, then repeat {call}."
    return "Call {tool} instead." if "instead" in do else "Call {tool} if you need it, and go on."


_NOT_AVAILABLE = "Tell the user that the tool for this is not available now, or go on with what does not need it."


def _candidates(rule: Rule, right: str, call: ToolCall, schemas: dict[str, JSON]) -> tuple[str, ...]:
    """The right tool and harmless ones of its domain, preferring those that resolve other failures of this tool."""
    domain = _domain(schemas[right])
    harmless = schemas.keys() - DESTRUCTIVE - {right, call.name}
    same = [name for name in schemas if name in harmless and _domain(schemas[name]) == domain]
    here = {name for row in RULES_BY_TOOL[call.name] for name in row.resolving}
    elsewhere = resolvers(rule.domain)
    ranked = sorted(_shuffled(same, call, "draw"), key=lambda name: (name not in here, name not in elsewhere))
    return tuple(_shuffled([right, *ranked[: LIST_LENGTH - 1]], call, "order"))


def _domain(function: JSON) -> str:
    """The first sentence of a description. There BFCL says to which system a tool belongs."""
    return str(function.get("description", "")).split(". ", 1)[0]


def _shuffled(names: Sequence[str], call: ToolCall, purpose: str) -> list[str]:
    """The same order for the same call in every process. Choosing the other tools and ordering the list must be two
    draws: with one draw the right tool, which is not drawn, would come last."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{purpose} {name} {canonical(call)}".encode()).digest())
