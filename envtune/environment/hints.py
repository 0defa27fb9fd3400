"""Hints: they turn a vague failure into a correction that can be acted on.

`hint(call, result, tools, observed)` is a pure function of what the agent did and could see: the call, its raw result,
the tool schemas now available, and the texts shown so far. It never sees the ground truth or a simulator's private
state. So a hint only says what a careful reader of the schemas and the error could have found out. Source: arXiv
2510.10197, section 3 (actionable environment augmentation). The released code edits copies of the simulators instead.
Those edits cannot be switched off and also change the ground truth's responses.

Rules that follow from the schemas alone come first (`hint_schema`), then one table of rules by domain (`hint_rules`).
A wrong value waits only where the error asks for another tool first (log in, start the engine, look up an ID). A hint
is at most two sentences: what is wrong, and what to do next. It names only tools in the current list.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from envtune.environment.guards import exceeded
from envtune.environment.hint_rules import RULES_BY_TOOL, Rule, resolvers
from envtune.environment.hint_schema import DEFERRED, Advice, canonical, listed, schema_advice, value_advice
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
        return _unavailable_tool(call, list(schemas), strength)
    parameters = schemas[call.name]["parameters"]
    advice = schema_advice(call, parameters) if result.error else value_advice(call, parameters)
    unmet = result.error and any(rule.resolving for rule in matching)
    if advice is not None and not (unmet and advice.rule in DEFERRED):
        return _plain(advice)
    if result.guarded:
        return _guarded(call, result.text)
    return _from_rules(matching, call, schemas, strength) if matching else None


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


def _unavailable_tool(call: ToolCall, known: list[str], strength: Strength) -> Hint:
    """The nearest names in the list of tools."""
    near = _nearest(call.name, known)[: 1 if strength is Strength.ONE else LIST_LENGTH]
    why = f"There is no tool {call.name!r} in the list." if re.fullmatch(r"[\w.-]{1,60}", call.name) else _NO_TOOL
    if not near:
        return Hint("unknown_tool", f"{why} Choose one from the list of tools, or tell the user that none does it.")
    offered = tuple(_shuffled(near, call, "order"))
    phrase = offered[0] if len(offered) == 1 else f"one of {listed(offered, 'or')}"
    do = f"Call {phrase} if that is what you mean, or tell the user that no available tool does it."
    return Hint("unknown_tool", f"{why} {do}", offered)


def _nearest(name: str, known: list[str]) -> list[str]:
    """Known names, the nearest first: those that are a part of `name`, then those written alike."""
    parts = re.split(r"[\W_]+", name.lower())
    alike = difflib.get_close_matches(name.rsplit(".", 1)[-1].lower(), [tool.lower() for tool in known], n=LIST_LENGTH)
    by_lower = {tool.lower(): tool for tool in known}
    begins = sorted((tool for tool in by_lower if name.lower().startswith(tool)), key=len, reverse=True)
    return list(dict.fromkeys(by_lower[tool] for tool in [*(p for p in parts if p in by_lower), *alike, *begins]))


_NO_TOOL = "There is no tool of that name in the list."


def _from_rules(matching: Sequence[Rule], call: ToolCall, schemas: dict[str, JSON], strength: Strength) -> Hint:
    """The hint of the first rule whose tool is available. If none is, a hint that the tool is missing."""
    available = schemas.keys() - {call.name}
    usable = (rule for rule in matching if not rule.resolving or available & set(rule.resolving))
    rule = next(usable, None)
    if rule is None:
        return Hint(matching[0].name, f"{matching[0].why.format(call=call.name)} {_NOT_AVAILABLE}")
    why = rule.why.format(call=call.name)
    if not rule.resolving:
        return Hint(rule.name, f"{why} {rule.do.format(call=call.name)}")
    right = next(tool for tool in rule.resolving if tool in available)
    offered = (right,) if strength is Strength.ONE else _candidates(rule, right, call, schemas)
    if len(offered) > 1:
        return Hint(rule.name, f"{why} Call one of {listed(offered, 'or')}, then repeat {call.name}.", offered)
    others = _named(rule.do) - {"call", "tool"}
    do = rule.do if others <= schemas.keys() else "Call {tool}, then repeat {call}."
    return Hint(rule.name, f"{why} {do.format(call=call.name, tool=right, **{name: name for name in others})}", offered)


_NOT_AVAILABLE = "Tell the user that the tool for this is not available now, or go on with what does not need it."


def _named(template: str) -> set[str]:
    """The placeholders of a template."""
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def _candidates(rule: Rule, right: str, call: ToolCall, schemas: dict[str, JSON]) -> tuple[str, ...]:
    """The right tool and others of its domain, preferring those that resolve other failures of this tool, shuffled."""
    domain = _domain(schemas[right])
    same = [name for name in schemas if _domain(schemas[name]) == domain and name not in (right, call.name)]
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
