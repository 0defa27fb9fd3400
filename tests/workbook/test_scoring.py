"""Figures of an evaluation show the numbers of their tables."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib import pyplot

from envtune.workbook.scoring import shifts_figure

COLUMNS = ["n", "score", "difference", "difference_low", "difference_high"]


def table(rows: dict[tuple[str, str], tuple[float, float, float]]) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples([("baseline", "default"), *rows], names=["varied", "value"])
    return pd.DataFrame([(9, 0.5, 0.0, 0.0, 0.0), *((9, 0.5, *row) for row in rows.values())], index, COLUMNS)


def test_shifts_stand_in_their_rows():
    first = {
        ("step-limit", "5"): (-0.2, -0.3, -0.1),
        ("step-limit", "40"): (0.0, 0.0, 0.0),
        ("seed", "1"): (0.1, -0.1, 0.3),
    }
    second = {("step-limit", "20"): (0.05, 0.0, 0.1)}
    figure = shifts_figure({"one": table(first), "two": table(second)})
    one, two = figure.axes
    titles = [panel.get_title("left") + panel.get_title() for panel in (one, two)]  # by the style, if it is set
    assert titles == ["one", "two"]
    labels = [label.get_text() for label in one.get_yticklabels()]
    assert labels == ["step-limit 5", "step-limit 20", "step-limit 40", "seed 1"]
    for panel, rows in ((one, first), (two, second)):
        points = {labels[round(y)]: x for line in panel.lines if line.get_marker() == "o" for x, y in line.get_xydata()}
        ends = {
            labels[round(y)]: (low, high) for lines in panel.collections for (low, y), (high, _) in lines.get_segments()
        }
        assert points == pytest.approx({" ".join(place): 100 * row[0] for place, row in rows.items()})
        for place, (_, low, high) in rows.items():
            assert ends[" ".join(place)] == pytest.approx((100 * low, 100 * high))
    pyplot.close(figure)
