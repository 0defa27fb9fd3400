"""Hints: a vague failure becomes a correction that can be acted on.

`hint(call, result, tools, observed)` is a pure function of what the agent did and could see: the call, its raw result,
the tool schemas now available, and the texts shown so far. It never sees the ground truth or a simulator's private
state, so a hint can only tell what a careful reader of the schemas and the error could have found out. Source: arXiv
2510.10197, section 3 (actionable environment augmentation); the released code edits copies of the simulators instead,
which cannot be switched off and also changes the ground truth's responses.

The rules here follow from the schemas alone; they come first. Rules per domain follow in `RULES`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from envtune.types import JSON, ToolCall


class RawError(Protocol):
    """The failed result that a hint explains."""

    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def unknown_tool(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Hint:
    """A correction: which rule gave it, and what the agent reads."""

    rule: str
    text: str


def hint(call: ToolCall, result: RawError, tools: Sequence[JSON], observed: Sequence[str]) -> Hint | None:
    """The correction for a failed call, or None if no rule has anything to say.

    Args:
        call: what the agent asked for.
        result: the raw failure, as the benchmark words it.
        tools: JSON schemas of the tools now available.
        observed: the texts shown to the agent so far: user messages and results.
    """
    schemas = {tool["function"]["name"]: tool["function"] for tool in tools}
    if call.name not in schemas:
        return _unavailable_tool(call.name, list(schemas))
    return _wrong_arguments(call, schemas[call.name]["parameters"])


def hinted_text(text: str, found: Hint) -> str:
    """The result that the agent reads: the original error with the hint beside it, as JSON."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        value = {"error": text}
    return json.dumps({**value, "hint": found.text})


def _unavailable_tool(name: str, known: list[str]) -> Hint:
    by_lower = {tool.lower(): tool for tool in known}
    nearest = difflib.get_close_matches(name.rsplit(".", 1)[-1].lower(), list(by_lower), n=1)
    if nearest:
        return Hint("unknown_tool", f"There is no tool {name!r}. The nearest available one is {by_lower[nearest[0]]}.")
    return Hint("unknown_tool", f"There is no tool {name!r}. Choose one from the list of tools.")


def _wrong_arguments(call: ToolCall, parameters: JSON) -> Hint | None:
    properties: dict[str, JSON] = parameters["properties"]
    missing = [name for name in parameters.get("required", []) if name not in call.arguments]
    unknown = [name for name in call.arguments if name not in properties]
    if unknown:
        takes = f"{call.name} takes {_listed(list(properties))}" if properties else f"{call.name} takes no argument"
        return Hint("unknown_argument", f"{call.name} has no argument {_listed(unknown)}. {takes}.")
    if missing:
        types = [f"{name} ({properties[name]['type']})" for name in missing]
        return Hint("missing_argument", f"{call.name} also needs {_listed(types)}.")
    for name, value in call.arguments.items():
        if (found := _wrong_value(name, value, properties[name])) is not None:
            return found
    return None


def _wrong_value(name: str, value: Any, schema: JSON) -> Hint | None:
    if "enum" in schema and value not in schema["enum"]:
        return Hint("enum", f"{name} must be one of {_listed([repr(item) for item in schema['enum']], 'or')}.")
    if not _has_type(value, schema["type"]):
        return Hint("argument_type", f"{name} must be of type {schema['type']}, not {_type_name(value)}.")
    if schema["type"] == "array" and "items" in schema:
        wrong = [item for item in value if not _has_type(item, schema["items"]["type"])]
        if wrong:
            kind = schema["items"]["type"]
            return Hint("argument_type", f"Every item of {name} must be of type {kind}, not {_type_name(wrong[0])}.")
    return None


_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def _has_type(value: Any, kind: str) -> bool:
    return isinstance(value, _PYTHON_TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    return next(
        kind for kind in ("boolean", "integer", "number", "string", "array", "object") if _has_type(value, kind)
    )


def _listed(items: Sequence[str], last: str = "and") -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"
