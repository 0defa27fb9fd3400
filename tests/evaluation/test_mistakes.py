"""Mistakes counted by category, the episodes worth reading, and published rows beside ours."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from envtune.environment import replay
from envtune.evaluation import Result, evaluate
from envtune.evaluation.mistakes import Mistake, failure, instructive, lost_by, mistake_frame
from envtune.evaluation.published import beside_published, published
from envtune.policy import load_policy
from envtune.types import Category, Task, ToolCall
from envtune.workbook.scoring import mistakes_figure


@pytest.fixture(scope="module")
def some(tasks: list[Task]) -> list[Task]:
    return tasks[::10]


@pytest.fixture(scope="module")
def run(some: list[Task]) -> Result:
    return evaluate(load_policy("noisy:0.4"), some, progress=False)


def test_every_lost_turn_is_counted_once(run: Result, some: list[Task]) -> None:
    frame = mistake_frame(run.episodes, some)
    assert list(frame.index) == [*map(str, Category), "all"]
    assert frame.turns["all"] == sum(task.n_turns for task in some)
    right = sum(turn.correct for episode in run.episodes for turn in episode.turns)
    assert frame.drop(columns="turns").loc["all"].sum() == frame.turns["all"] - right
    assert frame.drop(index="all").sum().equals(frame.loc["all"])
    oracle = mistake_frame(evaluate(load_policy("oracle"), some, progress=False).episodes, some)
    assert oracle.drop(columns="turns").to_numpy().sum() == 0


def test_a_wrong_tool_is_told_from_a_missing_one(by_id: dict[str, Task]) -> None:
    task = by_id["multi_turn_base_0"]
    rest = [[[call] for call in turn] for turn in task.ground_truth[1:]]
    wrong = replay(task, [[[ToolCall("pwd", {})]], *rest])
    assert lost_by(task, wrong, 0) is Mistake.WRONG_TOOL
    missing = replay(task, [[[task.ground_truth[0][0]]], *rest])
    assert lost_by(task, missing, 0) is Mistake.MISSING_TOOL


def test_the_figure_draws_every_category(run: Result, some: list[Task]) -> None:
    frame = mistake_frame(run.episodes, some)
    (ax,) = mistakes_figure(frame).axes
    assert len(ax.get_yticklabels()) == len(frame)
    drawn = sum(bar.get_width() for bar in ax.patches)
    assert drawn == pytest.approx(frame.drop(columns="turns").div(frame.turns, axis=0).to_numpy().sum())
    oracle = mistake_frame(evaluate(load_policy("oracle"), some, progress=False).episodes, some)
    mistakes_figure(oracle)  # nothing lost, nothing to stack


def test_instructive_episodes(run: Result, some: list[Task]) -> None:
    by_id = {task.id: task for task in some}
    found = instructive(run.episodes, some)
    assert len(found) == 10
    assert not any(item.episode.success for item in found)
    assert len({(item.mistake, item.episode.category) for item in found}) == 10
    kinds = {item.mistake for item in found}
    assert kinds == {failure(by_id[e.task_id], e).mistake for e in run.episodes if not e.success}  # type: ignore[union-attr]
    assert instructive(run.episodes, some) == found
    assert Counter(item.mistake for item in found).most_common(1)[0][1] <= 4
    first = found[0]
    assert lost_by(by_id[first.episode.task_id], first.episode, first.turn) is first.mistake
    assert instructive([e for e in run.episodes if e.success], some) == []


def test_published_rows_add_up() -> None:
    rows = published()
    full = rows.dropna(subset=[*map(str, Category)])
    assert len(full) == 10
    assert (full[[*map(str, Category)]].mean(axis=1) - full.average).abs().max() < 0.03
    assert rows[["model", "n", "protocol", "source"]].notna().all(axis=None)
    assert not rows.model.duplicated().any()


def test_laptop_runs_are_never_sorted_among_published_ones(run: Result) -> None:
    table = beside_published({"tiny": run}, "2026-11-21", laptop=True)
    assert table.run.tolist() == [""] * len(published()) + ["tiny"]
    assert table.model.iloc[-1] == "noisy (laptop)"
    assert table.average.iloc[:-1].is_monotonic_decreasing
    ours = beside_published({"big": run}, "2026-11-21", laptop=False)
    assert ours.average.is_monotonic_decreasing
    row = ours[ours.run == "big"].iloc[0]
    assert row.average == 100 * run.accuracy
    assert (row.n, row.source) == (len(run), "this project")
    assert row.protocol == "part of the benchmark, 20 steps a turn"
    heldout = replace(run, config={**run.config, "settings": {"temperature": 0.7}})
    assert "temperature 0.7" in beside_published({"x": heldout}, "", laptop=True).protocol.iloc[-1]
