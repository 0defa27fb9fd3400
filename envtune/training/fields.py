"""Records from the plain values of a parameter file or of JSON. Every field is checked.

In: a dataclass and a mapping. Out: values of the fields' types. YAML reads `1e-6` as text, so text is read as a number
where a number is expected. A list, or text with commas, becomes a tuple. A mapping becomes the record that the field
may hold, such as `hint_rate: {start: 1, end: 0, share: 0.6}`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def record(kind: type[T], values: Mapping[str, Any], what: str) -> T:
    """A record of that kind.

    Raises:
        ValueError: a field is unknown, missing or of another type, or the record refuses its values. One line.
    """
    typed = as_fields(kind, values, what)
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]  # type: ignore[arg-type]
    if missing := [name for name in required if name not in typed]:
        raise ValueError(f"{what} lacks {', '.join(missing)}")
    return kind(**typed)


def as_fields(kind: type, values: Mapping[str, Any], what: str, without: Collection[str] = ()) -> dict[str, Any]:
    """Values of some fields of a dataclass, typed.

    Args:
        kind: the dataclass.
        values: field -> plain value.
        what: names the record in messages, such as "a machine".
        without: fields that may not be given.

    Raises:
        ValueError: an unknown field, or a value of another type. The message names it.
    """
    hints, known = get_type_hints(kind), [f.name for f in fields(kind) if f.name not in without]
    for name in values:
        if name not in known:
            raise ValueError(f"{what} has no field {name!r}: {suggestion(name, known, 'it has')}")
    return {name: _typed(hints[name], value, f"{name} of {what}") for name, value in values.items()}


def suggestion(name: object, known: Sequence[str], otherwise: str) -> str:
    """The known name that was probably meant, or all of them."""
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"{otherwise} {', '.join(known)}"


def _typed(hint: Any, value: Any, what: str) -> Any:
    kinds = get_args(hint) or (hint,)
    inner = [kind for kind in kinds if is_dataclass(kind)]
    if inner and isinstance(value, Mapping):
        return record(inner[0], value, what)  # type: ignore[arg-type]
    if get_origin(hint) is tuple and isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    refused = ValueError(f"{what} is {value!r}, expected {_text(hint)}")
    if isinstance(value, bool) and bool not in kinds:  # `true` is no number
        raise refused
    try:
        typed = TypeAdapter(hint).validate_python(value)
    except ValidationError:
        raise refused from None
    if isinstance(typed, float) and not math.isfinite(typed):
        raise refused
    return typed


def _text(hint: Any) -> str:
    """What a field accepts, in words."""
    kinds = [kind for kind in get_args(hint) if kind is not Ellipsis]
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, kinds))}"
    if get_origin(hint) is tuple:
        return f"a list, each {_text(kinds[0])}"
    if kinds:
        return " or ".join(map(_text, kinds))
    if issubclass(hint, Enum):
        return f"one of {', '.join(hint)}"
    if is_dataclass(hint):
        return f"{{{', '.join(f.name for f in fields(hint))}}}"
    return "null" if hint is type(None) else str(hint.__name__)
