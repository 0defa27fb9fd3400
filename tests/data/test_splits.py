"""No scenario stands on both sides of a split."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import envtune
from envtune.data import leak, row_split, select, split_numbers, spread
from envtune.types import Category


def test_sizes_by_category(tasks):
    for split, size in {"train": 100, "val": 25, "test": 75, "heldout": 100, "all": 200}.items():
        assert Counter(t.category for t in select(tasks, split)) == dict.fromkeys(Category, size)


def test_no_sibling_crosses():
    parts = [split_numbers(split) for split in ("train", "val", "test")]
    assert frozenset.union(*parts) == split_numbers("all") == frozenset(range(200))
    assert sum(map(len, parts)) == 200
    assert split_numbers("heldout") == split_numbers("val") | split_numbers("test")


def test_the_split_never_moves():
    """Published numbers hang on it: its first members and a checksum, written down once."""
    assert sorted(split_numbers("val"))[:5] == [4, 9, 21, 29, 34]
    assert sum(split_numbers("train")) == 10033


def test_by_number_nothing_leaks_and_by_row_most_does(tasks):
    assert leak(select(tasks, "train"), select(tasks, "heldout")) == 0
    assert leak(*row_split(tasks)) > 0.7


@given(st.integers(1, 900), st.integers(1, 800))
def test_spread_keeps_order_and_size(limit, n):
    tasks = envtune.load_tasks()[:n]
    some = spread(tasks, limit)
    assert len(some) == min(limit, n)
    positions = [tasks.index(t) for t in some]
    assert positions == sorted(set(positions))


def test_spread_keeps_the_categories(tasks):
    assert Counter(t.category for t in spread(tasks, 40)) == dict.fromkeys(Category, 10)
    with pytest.raises(ValueError, match="limit is 0"):
        spread(tasks, 0)
