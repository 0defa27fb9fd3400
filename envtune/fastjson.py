"""JSON text for hot paths. `json.dumps` builds a new encoder for every value. This one is built once."""

from __future__ import annotations

import json.encoder
from collections.abc import Callable
from typing import Any


def encoder(*, ensure_ascii: bool = True, allow_nan: bool = True) -> Callable[[Any], str]:
    """A function that does what `json.dumps` does with these settings, byte for byte, for values without cycles.

    A cycle raises a RecursionError instead of a ValueError.
    """
    prepared = json.encoder.JSONEncoder(ensure_ascii=ensure_ascii, allow_nan=allow_nan)
    make = json.encoder.c_make_encoder  # type: ignore[attr-defined]
    if make is None:  # Python without its C accelerator
        return prepared.encode
    quote = getattr(json.encoder, "encode_basestring_ascii" if ensure_ascii else "encode_basestring")
    write = make(None, prepared.default, quote, None, ": ", ", ", False, False, allow_nan)
    return lambda value: "".join(write(value, 0))
