"""What differs between two JSON values, for messages that refuse to go on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

MOST_SHOWN = 70
"""Characters of a value in a message."""
HASH = re.compile(r"[0-9a-f]{64}")


def differences(found: Any, wanted: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Place and both values of each difference. A missing value is None. Places read `stages[0].steps`."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in {**wanted, **found}:
            yield from differences(found.get(key), wanted.get(key), f"{where}.{key}" if where else key)
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for number, both in enumerate(zip(found, wanted, strict=True)):
            yield from differences(*both, f"{where}[{number}]")
    elif found != wanted:
        yield where, found, wanted


def brief(value: Any) -> str:
    """A value for a message: whole if it is short, the beginning of a hash."""
    text = str(value)
    if HASH.fullmatch(text):
        return text[:10]
    return text if len(text) < MOST_SHOWN else "another"
