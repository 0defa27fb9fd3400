"""Every way in which the simulators can fail is in the catalogue, and gets a hint or a reason."""

from __future__ import annotations

import re

import pytest

from envtune.data import bfcl
from envtune.studies.failures import UNREACHABLE, Kind
from envtune.studies.hint_coverage import coverage, coverage_table, source, statements

DOMAINS = list(bfcl.TOOL_DOCS)


@pytest.fixture(scope="module")
def runs():
    return coverage()


def test_every_statement_that_reports_an_error_is_reached_or_listed(runs):
    for domain in DOMAINS:
        lines = set().union(*runs[runs.domain == domain].lines)
        missed = {(domain, s.line) for s in statements(domain) if not lines & set(range(s.line, s.end + 1))}
        assert missed == {place for place in UNREACHABLE if place[0] == domain}


def test_statements_are_found(runs):
    """The finder does not overlook what a plain search finds."""
    for domain in DOMAINS:
        found = {line for s in statements(domain) for line in range(s.line, s.end + 1)}
        for number, text in enumerate(source(domain).read_text().splitlines(), 1):
            if re.search(r'"error"(:|\])|"Error: |^\s*raise ', text) and "e.g." not in text:
                assert number in found, (domain, number, text)


def test_the_catalogue_fails_as_it_says(runs):
    for row in runs.itertuples():
        kind = Kind.SOFT
        if row.error:
            kind = Kind.EXCEPTION if row.result.startswith("Error during execution") else Kind.ERROR
        assert kind == row.kind, row.call


def test_every_failure_gets_a_hint_or_a_reason(runs):
    without = runs[runs.hint.isna()]
    assert (without.no_hint != "").all(), without.call.tolist()
    assert (runs[runs.hint.notna()].no_hint == "").all()
    assert len(without) == 2


def test_coverage_table_adds_up():
    table = coverage_table().set_index("domain")
    assert list(table.index) == [*DOMAINS, "all"]
    assert (table.statements == table.reached + table["listed as unreachable"]).all()
    assert (table.sites == table.reached + table["raising lines"] + table.soft).all()
    assert table.loc["all", "statements"] == 174
    assert table.loc["all", "without hint"] == 2
