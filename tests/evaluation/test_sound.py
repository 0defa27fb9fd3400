"""Scores on all and on the sound instances."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from envtune.benchmark.rescore import Rescored, rescore_episodes
from envtune.cli import app
from envtune.data.audit import unsound
from envtune.evaluation import Result, evaluate, load_result, sample_table
from envtune.policy import Oracle, Silent
from envtune.types import Task

runner = CliRunner()


@pytest.fixture(scope="module")
def some(tasks: list[Task]) -> list[Task]:
    """Four unsound instances and eight sound ones."""
    bad = [task for task in tasks if task.id in unsound()][:4]
    return [*bad, *(task for task in tasks if task.id not in unsound())][:12]


@pytest.fixture(scope="module")
def half(some: list[Task]) -> Result:
    """All unsound instances are failed, all sound ones solved."""
    failed = evaluate(Silent(), some[:4], progress=False)
    solved = evaluate(Oracle(), some[4:], progress=False)
    return Result({**solved.config, "tasks": {"n": 12, "sha256": ""}}, (*failed.rows, *solved.rows))


def test_the_sound_line_counts_the_sound_instances_alone(half: Result) -> None:
    table = half.table(sound=True)
    assert list(table.index[-2:]) == ["all", "sound"]
    assert table.loc["all", ["n", "task_accuracy"]].tolist() == [12, pytest.approx(8 / 12)]
    assert table.loc["sound", ["n", "task_accuracy"]].tolist() == [8, 1]
    assert half.table().equals(table.drop(index="sound"))
    assert (len(half.sound), half.sound.accuracy) == (8, 1)


def test_a_run_without_a_sound_instance_has_no_such_line(half: Result) -> None:
    bad = Result(half.config, half.rows[:4])
    assert list(bad.table(sound=True).index[-1:]) == ["all"]
    with pytest.raises(ValueError, match="none of the 4 tasks is sound"):
        _ = bad.sound


def test_samples_have_the_line_too(half: Result) -> None:
    table = sample_table([half, half], sound=True)
    assert table.loc["sound", ["n", "pass@1", "pass^2"]].tolist() == [8, 1, 1]
    assert sample_table([half, half]).equals(table.drop(index="sound"))


def test_rescored_files_have_the_line_too(half: Result, some: list[Task]) -> None:
    found = rescore_episodes(half.episodes, some)
    table = found.table(sound=True)
    assert table.loc["sound", ["n", "ours", "official"]].tolist() == [8, 1, 1]
    assert found.table().equals(table.drop(index="sound"))
    assert list(Rescored(found.items[:4]).table(sound=True).index) == ["base", "all"]


def test_the_commands(tmp_path: Path) -> None:
    run = tmp_path / "run.jsonl"
    found = runner.invoke(app, ["evaluate", "oracle", "--split", "val", "--limit", "20", "--out", str(run), "--sound"])
    assert found.exit_code == 0, found.output
    assert "sound" in found.output
    assert "sound" not in runner.invoke(app, ["evaluate", "oracle", "--limit", "4"]).output
    found = runner.invoke(app, ["rescore", str(run), "--sound"])
    assert found.exit_code == 0, found.output
    assert "sound" in found.output
    n = len(load_result(run).sound)
    assert n < 20
    found = runner.invoke(app, ["compare", str(run), str(run), "--sound"])
    assert found.exit_code == 0, found.output
    assert f" {n} " in found.output
