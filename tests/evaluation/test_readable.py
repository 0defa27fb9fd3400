"""Scores as text."""

from __future__ import annotations

import re

import pandas as pd

import envtune
from envtune.evaluation import readable
from envtune.policy import Silent


def test_values_carry_their_interval(tasks):
    table = readable(envtune.evaluate(Silent(), tasks[:20], progress=False).table())
    assert list(table.index) == ["base", "all"]
    row = table.loc["all"]
    assert (row["n"], row["task accuracy"], row["error rate"]) == ("20", "0.0%", "–"), "all agree: no interval"
    assert row["steps per turn"] == "1.00"
    noisy = envtune.evaluate(envtune.load_policy("noisy:0.3"), tasks[:20], progress=False)
    assert re.fullmatch(r"\d+\.\d% \[\d+\.\d, \d+\.\d\]", readable(noisy.table()).progress["all"])
    both = pd.DataFrame(
        {"difference": [0.1, -0.1, 0.0], "difference_low": [0.0, -0.2, 0.0], "difference_high": [0.2, 0.0, 0.0]}
    )
    assert list(readable(both).difference) == ["+10.0% [+0.0, +20.0]", "-10.0% [-20.0, +0.0]", "+0.0%"]
    assert not any("low" in column for column in table.columns)
