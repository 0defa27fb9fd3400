"""A finding as the row of a table."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from envtune.workbook import Finding
from envtune.workbook.findings import COLUMNS, cells


@pytest.mark.parametrize(
    ("finding", "shown"),
    [
        (Finding("Half", 0.5, 0.25, 0.4, 0.6, 4), ["50.0%", "25.0%", "40.0 to 60.0%", "4"]),
        (Finding("Less", -0.025, None, -0.098, 0.049, 3, "points"), ["-2.5 pp", "–", "-9.8 to +4.9 pp", "3"]),
        (Finding("All", 800, n=2800, unit="count"), ["800", "–", "–", "2,800"]),
        (Finding("Separation", 0.7178, 0.5, 0.7, 0.75, unit="score"), ["0.72", "0.50", "0.70 to 0.75", "–"]),
        (Finding("Unknown", float("nan"), None, float("nan"), float("nan")), ["–", "–", "–", "–"]),
        (Finding("All agree", 0.0, 0.0, 0.0, 0.0, 40), ["0.0%", "0.0%", "–", "40"]),
    ],
    ids=lambda value: value.what if isinstance(value, Finding) else "",
)
def test_cells(finding, shown):
    assert cells(asdict(finding)) == [finding.what, *shown]
    assert len(COLUMNS) == len(shown) + 1


@pytest.mark.parametrize("what", ["", "word " * 21])
def test_a_finding_is_named_briefly(what):
    with pytest.raises(ValueError, match="Name a finding in 1 to 20"):
        Finding(what, 1.0)
