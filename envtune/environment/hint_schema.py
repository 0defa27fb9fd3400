"""The generic rules for failed calls. They follow from the tool schemas alone and come before any rule of a domain.

In: a call and the schema of its tool. Out: an `Advice`, or None if the call fits its schema. In addition to types and
required names, BFCL writes constraints into the descriptions of parameters: `[Enum]: [...]`, `Options are: ...`, `'l'
for lines`, `from 1 to 5`, `a multiple of 5`, `YYYY-MM-DD`. They are read from there, so a new tool needs no new rule.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from envtune.types import JSON, ToolCall


@dataclass(frozen=True, slots=True)
class Advice:
    """One piece of advice: `why` is what the call violates, `do` the next action, one sentence each."""

    rule: str
    why: str
    do: str


def schema_advice(call: ToolCall, parameters: JSON) -> Advice | None:
    """The first thing in `call` that its schema forbids.

    Args:
        call: what the agent asked for.
        parameters: the `parameters` object of the tool's schema.
    """
    properties: dict[str, JSON] = parameters["properties"]
    required = parameters.get("required", [])
    unknown = [name for name in call.arguments if name not in properties]
    missing = [name for name in required if name not in call.arguments]
    if unknown:
        takes = f"with {listed(list(properties))} only" if properties else "without any argument"
        return Advice(
            "unknown_argument",
            f"{call.name} has no argument {listed([shown(name) for name in unknown])}.",
            f"Repeat {call.name} {takes}.",
        )
    if missing:
        types = [f"{name} ({properties[name]['type']})" for name in missing]
        return Advice(
            "missing_argument",
            f"{call.name} also needs {listed(types)}.",
            f"Repeat {call.name} with {'it' if len(missing) == 1 else 'them'}, "
            "and ask the user for a value that you can find nowhere.",
        )
    return value_advice(call, parameters)


def value_advice(call: ToolCall, parameters: JSON) -> Advice | None:
    """The first value in `call` that its schema forbids: its type, then what its description says."""
    for name, value in call.arguments.items():
        schema = parameters["properties"].get(name)
        if schema is None or (value is None and schema.get("default") == "None"):
            continue
        for rule, why in _violations(name, value, schema):
            return Advice(rule, f"{why}.", f"Repeat {call.name} with such a value for {name}.")
    return None


def _violations(name: str, value: Any, schema: JSON) -> Iterator[tuple[str, str]]:
    kind = schema["type"]
    if not _has_type(value, kind):
        named = kind in ("integer", "number") and isinstance(value, str) and not re.search(r"\d", value)
        yield "name_for_number" if named else "argument_type", f"{name} must be of type {kind}, not {_type_name(value)}"
        return
    if isinstance(value, float) and not math.isfinite(value):
        yield "not_finite", f"{name} must be a finite number"
    if kind == "array":
        items = schema.get("items", {}).get("type", "string")
        if wrong := [item for item in value if not _has_type(item, items)]:
            yield "argument_type", f"Every item of {name} must be of type {items}, not {_type_name(wrong[0])}"
            return
    if kind == "object" and "properties" in schema:
        yield from _object_violations(name, value, schema["properties"])
    yield from _described_violations(name, value, schema)


def _object_violations(name: str, value: JSON, properties: dict[str, JSON]) -> Iterator[tuple[str, str]]:
    if any(key not in properties for key in value):
        yield "object_key", f"{name} may only have the keys {listed(list(properties))}"
    for key, item in value.items():
        if key in properties and item is not None and not _has_type(item, properties[key]["type"]):
            yield "argument_type", f"{key} in {name} must be of type {properties[key]['type']}, not {_type_name(item)}"


def _described_violations(name: str, value: Any, schema: JSON) -> Iterator[tuple[str, str]]:
    """Violations of what the description of a parameter says about its values."""
    text = schema.get("description", "")
    allowed = list(schema.get("enum", ())) or allowed_values(text)
    if allowed and any(item not in allowed for item in (value if isinstance(value, list) else [value])):
        subject = f"Every item of {name}" if isinstance(value, list) else name
        yield "enum", f"{subject} must be one of {listed([str(item) for item in allowed], 'or')}"
    if isinstance(value, str):
        if "YYYY-MM-DD" in text and not _is_date(value):
            yield "date_format", f"{name} must be a date in the format YYYY-MM-DD"
    elif isinstance(value, int | float):
        if (limits := _RANGE.search(text)) and not float(limits[1]) <= value <= float(limits[2]):
            yield "range", f"{name} must be between {limits[1]} and {limits[2]}"
        if (factor := _MULTIPLE.search(text)) and value % int(factor[1]) != 0:
            yield "multiple", f"{name} must be a multiple of {factor[1]}"


SHAPE = frozenset({"unknown_argument", "missing_argument"})
"""Rules for calls that fail before the tool runs."""
DEFERRED = frozenset({"enum", "range", "multiple", "date_format", "name_for_number"})
"""Rules that give way to a domain's rule that names the tool to call first. They are the rules from the words of a
description, and the rule for a name instead of an ID that such a tool would find."""
_ENUM = re.compile(r"\[Enum\]: *\[([^\]]*)\]|\[Enum\]: *([^\[\]]+)|[Oo]ptions(?: are)?: ([^.]+)")
_CODES = re.compile(r"'(\w+)' for ")
_RANGE = re.compile(r"(?:from|between) (-?\d+)(?: \([^)]*\))? (?:to|and) (-?\d+)")
_MULTIPLE = re.compile(r"multiple of (\d+)")


def allowed_values(description: str) -> list[str]:
    """The values that a description lists, in its order. Empty if it lists none."""
    if (found := _ENUM.search(description)) is not None:
        return [item.strip().strip("\"'.") for item in next(filter(None, found.groups()), "").split(",")]
    codes = _CODES.findall(description)
    return codes if len(codes) > 1 else []


def _is_date(text: str) -> bool:
    try:
        datetime.datetime.strptime(text, "%Y-%m-%d")
    except ValueError:
        return False
    return True


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
    kinds = ("boolean", "integer", "number", "string", "array", "object")
    return next((kind for kind in kinds if _has_type(value, kind)), "unknown")


def listed(items: Sequence[str], last: str = "and") -> str:
    """`a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"


def shown(name: str) -> str:
    """A name that the agent made up, if it is short and plain. Otherwise words for it."""
    return name if re.fullmatch(r"[\w.-]{1,40}", name) else "of that name"


def canonical(call: ToolCall) -> str:
    """The call as text that is equal for equal calls, in every process."""
    return f"{call.name} {json.dumps(call.arguments, sort_keys=True, default=str)}"
