"""The check itself: it passes on what is right, shows each named departure, and fails on what is wrong."""

from __future__ import annotations

from dataclasses import replace

from envtune.benchmark import verify as module
from envtune.benchmark.verify import CAUSES, verify
from envtune.types import ToolCall


def test_nothing_unexplained_and_every_departure_seen(tasks):
    some = [*tasks[::16], *(task for task in tasks if "TwitterAPI" in task.involved_classes)][:150]
    report = verify(some, trajectories=200, progress=False)
    assert report.ok, report.failures
    assert (report.ground_truths, sum(report.trajectories.values())) == (len(some), 200)
    assert dict(report.explained) == dict.fromkeys(CAUSES, 1)
    assert set(report.verdicts) == {True, False}
    assert report.table().set_index("check").loc["unexplained differences", "count"] == 0


def test_a_wrong_ground_truth_is_found(tasks):
    wrong = replace(tasks[0], ground_truth=((ToolCall("cd", {"folder": "nowhere"}),), *tasks[0].ground_truth[1:]))
    report = verify([wrong], trajectories=0, progress=False)
    assert any("its ground truth replays to" in failure for failure in report.failures)


def test_an_unexplained_difference_is_found(tasks, monkeypatch):
    results = module.official.results
    monkeypatch.setattr(
        module.official,
        "results",
        lambda task, turns: [[[f"{text} " for text in step] for step in turn] for turn in results(task, turns)],
    )
    report = verify(tasks[:3], trajectories=3, progress=False)
    assert any("result 0: official" in failure for failure in report.failures)
