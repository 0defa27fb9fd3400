"""The measurement measures what it says."""

from __future__ import annotations

from envtune.studies.fuzz import Fuzzed
from envtune.studies.speed import bench_env


def test_bench_compares_both_sides_by_category(tasks):
    table = bench_env(tasks[::40], seconds=0.8)
    assert list(table["category"].unique()) == ["base", "miss_func", "miss_param", "long_context"]
    assert (table["repeats"] >= 1).all()
    assert table["ratio"].median() > 1
    assert (table["calls/s"] > table["episodes/s"]).all()


def test_reports_add_up():
    report = Fuzzed(calls=1, worst_seconds=0.2, slowest="a", tools={"a"})
    report.add(Fuzzed(calls=2, hangs=1, worst_seconds=0.1, slowest="b", tools={"b"}))
    assert (report.calls, report.slowest, report.tools, report.ok) == (3, "a", {"a", "b"}, False)
