"""Mistakes counted by category, the episodes worth reading, and published rows with ours."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from envtune.chat import render_calls
from envtune.environment import ToolUseEnv, replay
from envtune.environment.rules import Rules
from envtune.evaluation import Result, evaluate
from envtune.evaluation.mistakes import Failure, Mistake, explained, failure, instructive, lost_by, mistake_frame
from envtune.evaluation.published import beside_published, published
from envtune.policy import Oracle, load_policy
from envtune.types import Category, StopReason, Task, ToolCall
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
    meanings = explained(frame.T).meaning
    assert meanings[meanings != ""].to_dict() == {str(mistake): mistake.meaning for mistake in Mistake}
    assert list(meanings[meanings == ""].index) == ["turns"]


def test_a_wrong_tool_is_told_from_a_missing_one(by_id: dict[str, Task]) -> None:
    task = by_id["multi_turn_base_0"]
    rest = [[[call] for call in turn] for turn in task.ground_truth[1:]]
    wrong = replay(task, [[[ToolCall("pwd", {})]], *rest])
    assert lost_by(task, wrong, 0) is Mistake.WRONG_TOOL
    missing = replay(task, [[[task.ground_truth[0][0]]], *rest])
    assert lost_by(task, missing, 0) is Mistake.MISSING_TOOL


def truth(task: Task, **changed: list[list[ToolCall]]) -> list[list[list[ToolCall]]]:
    """The ground truth's steps, a call in each; `turn_<i>` stands in for those of turn i."""
    right = [[[call] for call in turn] for turn in task.ground_truth]
    return [changed.get(f"turn_{i}", steps) for i, steps in enumerate(right)]


def test_each_other_mistake_by_hand(by_id: dict[str, Task]) -> None:
    task = by_id["multi_turn_base_0"]
    cd, mkdir, mv = task.ground_truth[0]
    rest = task.ground_truth[1:]
    mistaken = {
        Mistake.NO_CALL: [],
        Mistake.VALUE: [[cd], [ToolCall("mkdir", {"dir_name": "tmp"})], [mv]],
        Mistake.NEEDLESS: [[cd], [mkdir], [mv], [ToolCall("touch", {"file_name": "more.txt"})]],
    }
    for mistake, steps in mistaken.items():
        episode = replay(task, truth(task, turn_0=steps))
        assert lost_by(task, episode, 0) is mistake
        assert lost_by(task, episode, 1) is Mistake.EARLIER
        assert failure(task, episode) == Failure(mistake, 0, episode)
    aborted = replay(task, truth(task)[:2])
    assert [lost_by(task, aborted, turn) for turn in range(4)] == [None, None, *[Mistake.NOT_PLAYED] * 2]
    assert failure(task, aborted) == Failure(Mistake.NOT_PLAYED, 2, aborted)
    env = ToolUseEnv(task)
    for text in ("<tool_call>{", *(render_calls(calls) if i else "Done." for calls in rest for i in (1, 0))):
        env.step(text)
    assert lost_by(task, env.episode, 0) is Mistake.FORMAT


@pytest.mark.parametrize(("number", "turn", "dropped"), [(16, 0, 2), (18, 0, 4), (35, 0, 1)])
def test_a_tool_called_too_rarely_is_missing(by_id: dict[str, Task], number: int, turn: int, dropped: int) -> None:
    task = by_id[f"multi_turn_base_{number}"]
    steps = truth(task)[turn]
    assert steps[dropped][0].name in {call.name for i, step in enumerate(steps) if i != dropped for call in step}
    episode = replay(task, truth(task, turn_0=steps[:dropped] + steps[dropped + 1 :]))
    assert lost_by(task, episode, turn) is Mistake.MISSING_TOOL


def test_a_call_due_twice_and_made_once_next_to_another_is_a_wrong_value(by_id: dict[str, Task]) -> None:
    task = by_id["multi_turn_base_0"]
    cd, mkdir, mv = task.ground_truth[0]
    episode = replay(task, truth(task, turn_0=[[cd], [mkdir], [ToolCall("mkdir", {"dir_name": "x"})], [mv]]))
    twice = replace(task, ground_truth=((cd, mkdir, mkdir, mv), *task.ground_truth[1:]))
    assert lost_by(twice, episode, 0) is Mistake.VALUE
    assert lost_by(task, episode, 0) is Mistake.NEEDLESS


def test_a_turn_that_the_agent_did_not_end_met_a_limit(by_id: dict[str, Task]) -> None:
    task = by_id["multi_turn_base_0"]
    (aborted,) = evaluate(Oracle(), [task], rules=Rules(max_steps=2), progress=False).episodes
    assert aborted.stop is StopReason.ABORTED
    assert failure(task, aborted) == Failure(Mistake.STEP_LIMIT, 0, aborted)
    limited = replay(task, truth(task), max_steps_per_turn=2)
    assert limited.stop is StopReason.STEP_LIMIT
    assert failure(task, limited) == Failure(Mistake.STEP_LIMIT, 0, limited)
    assert lost_by(task, limited, 1) is Mistake.NOT_PLAYED
    asked_back = by_id["multi_turn_miss_func_0"]
    assert not asked_back.ground_truth[2]
    restless = replay(asked_back, truth(asked_back, turn_2=[[ToolCall("pwd", {})]] * 5), max_steps_per_turn=4)
    assert failure(asked_back, restless) == Failure(Mistake.STEP_LIMIT, 2, restless)


def test_a_needless_call_where_none_is_due_loses_the_turn_but_not_the_episode(by_id: dict[str, Task]) -> None:
    task = by_id["multi_turn_miss_func_0"]
    episode = replay(
        task, truth(task, turn_2=[[ToolCall("touch", {"file_name": "x"})], [ToolCall("rm", {"file_name": "x"})]])
    )
    harmful = replay(task, truth(task, turn_2=[[ToolCall("touch", {"file_name": "x"})]]))
    assert lost_by(task, harmful, 2) is Mistake.NEEDLESS
    assert failure(task, harmful) == Failure(Mistake.EARLIER, 3, harmful)
    assert failure(task, episode) is None


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
