"""The prepared encoder writes what `json.dumps` writes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envtune import fastjson

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(scalars, lambda v: st.lists(v) | st.dictionaries(st.text() | st.integers(), v), max_leaves=10)


@settings(max_examples=200, deadline=None)
@given(values)
def test_it_writes_what_dumps_writes(value):
    for ascii_only in (True, False):
        assert fastjson.encoder(ensure_ascii=ascii_only)(value) == json.dumps(value, ensure_ascii=ascii_only)


def test_it_refuses_what_dumps_refuses():
    with pytest.raises(ValueError, match="not JSON compliant"):
        fastjson.encoder(allow_nan=False)([float("nan")])
    with pytest.raises(TypeError, match="not JSON serializable"):
        fastjson.encoder()({"a": object()})
