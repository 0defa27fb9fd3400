"""Several samples of a run, and the comparison of runs that answer the same question."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from envtune.cli import app
from envtune.data.splits import split_numbers
from envtune.evaluation import (
    Result,
    compare,
    comparison,
    evaluate,
    evaluate_samples,
    load_runs,
    readable,
    sample_table,
)
from envtune.policy import Noise, NoisyOracle, Oracle, Silent
from envtune.types import Task


@pytest.fixture(scope="module")
def some(tasks: list[Task]) -> list[Task]:
    return tasks[::40]


def noisy(seed: int) -> NoisyOracle:
    return NoisyOracle(Noise.level(0.1), seed)


def sampled(tasks: list[Task], folder: Path | None, k: int = 3) -> list[Result]:
    return evaluate_samples(noisy, tasks, folder, k, progress=False)


def test_samples_are_counted_by_hand(some: list[Task]) -> None:
    runs = sampled(some, None)
    table = sample_table(runs)
    successes = [sum(run.rows[i].success for run in runs) for i in range(len(some))]
    whole = table.loc["all"]
    assert whole["pass@1"] == pytest.approx(sum(successes) / 3 / len(some))
    assert whole["pass@1"] == pytest.approx(sum(run.accuracy for run in runs) / 3)
    assert whole["pass^3"] == pytest.approx(sum(n == 3 for n in successes) / len(some))
    assert whole["pass@3"] == pytest.approx(sum(n > 0 for n in successes) / len(some))
    assert 0 < whole["pass^3"] < whole["pass@1"] < whole["pass@3"] <= 1
    assert (whole["n"], whole["samples"]) == (len(some), 3)
    for name in ("pass@1", "pass^3", "pass@3", "strict_task_accuracy", "progress"):
        assert (table[f"{name}_low"] <= table[name]).all()
        assert (table[name] <= table[f"{name}_high"]).all()
    assert list(readable(table).columns)[:3] == ["n", "samples", "pass@1"]


def test_samples_are_resumed_and_loaded(some: list[Task], tmp_path: Path) -> None:
    runs = sampled(some, tmp_path / "run")
    files = sorted((tmp_path / "run").iterdir())
    whole = [file.read_bytes() for file in files]
    assert [file.name for file in files] == ["sample-0.jsonl", "sample-1.jsonl", "sample-2.jsonl"]
    files[1].write_bytes(whole[1][: len(whole[1]) // 2])
    files[2].unlink()
    assert sampled(some, tmp_path / "run") == runs == load_runs(tmp_path / "run")
    assert [file.read_bytes() for file in files] == whole


def test_sampling_needs_a_seed(some: list[Task]) -> None:
    with pytest.raises(ValueError, match=r"policy oracle answers the same every time\. Give it a temperature"):
        evaluate_samples(lambda seed: Oracle(), some, None, 2, progress=False)
    assert len(evaluate_samples(lambda seed: Oracle(), some, None, 1, progress=False)) == 1


def test_only_one_policy_is_held_at_a_time(some: list[Task]) -> None:
    loaded: list[weakref.ref[NoisyOracle]] = []

    def load(seed: int) -> NoisyOracle:
        gc.collect()
        assert not any(policy() for policy in loaded)
        policy = noisy(seed)
        loaded.append(weakref.ref(policy))
        return policy

    assert len(evaluate_samples(load, some[:2], None, 3, progress=False)) == len(loaded) == 3


def test_a_folder_of_several_runs_is_refused(some: list[Task], tmp_path: Path) -> None:
    for name, policy in (("a", Silent()), ("b", Oracle())):
        evaluate(policy, some[:2], tmp_path / f"{name}.jsonl", progress=False)
    with pytest.raises(ValueError, match=r"holds several runs, such as a\.jsonl and b\.jsonl\. Name one of the files"):
        load_runs(tmp_path)
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "none.jsonl"):
        with pytest.raises(FileNotFoundError, match=r"no run at .*: `envtune evaluate POLICY --out"):
            load_runs(path)


def test_samples_are_compared_by_their_mean(some: list[Task]) -> None:
    runs, oracle = sampled(some, None), evaluate(Oracle(), some, progress=False)
    difference = compare(oracle, runs)
    assert difference.value == pytest.approx(1 - sample_table(runs).loc["all", "pass@1"])
    table = comparison(oracle, runs)
    assert table.loc[("task_accuracy", "all"), "difference"] == pytest.approx(difference.value)
    assert table.loc[("task_accuracy", "all"), "p"] == difference.p_value
    assert list(table.loc["task_accuracy"].index) == ["all", "base", "miss_func", "miss_param", "long_context"]
    assert table.loc[("task_accuracy", "base"), "n"] == 5
    assert (table.low <= table.difference).all()
    assert (table.difference <= table.high).all()


@pytest.mark.parametrize("metric", ["task_accuracy", "progress"])
def test_a_run_does_not_differ_from_copies_of_itself(some: list[Task], metric: str) -> None:
    for policy in (Oracle(), noisy(0)):
        run = evaluate(policy, some, progress=False)
        for k in range(2, 13):
            difference = compare(run, [run] * k, metric)
            assert difference.value == pytest.approx(0, abs=1e-12)
            assert difference.p_value == 1


def test_runs_that_answer_different_questions_are_refused(some: list[Task]) -> None:
    run = evaluate(Silent(), some, progress=False)
    other = evaluate(Silent(), some, max_steps_per_turn=10, reveal="recompile", progress=False)
    with pytest.raises(
        ValueError, match="protocol max_steps_per_turn is 20 in one and 10 in the other; protocol reveal"
    ):
        compare(run, other)
    older = replace(run, config={**run.config, "data": {**run.config["data"], "bfcl-eval": "2025.1"}})
    with pytest.raises(
        ValueError, match=r"cannot be compared: data bfcl-eval is '.*' in one and '2025\.1' in the other"
    ):
        comparison(run, older)
    changed = replace(run, config={**run.config, "tasks": {"n": len(some), "sha256": "0"}})
    with pytest.raises(ValueError, match="the tasks have the same names but other contents"):
        compare(run, changed)


def test_splits_are_named(tasks: list[Task]) -> None:
    base = [task for task in tasks if task.category == "base"]
    whole = evaluate(Silent(), base, progress=False)
    assert whole.split == whole.drawn_from == "all"
    part = evaluate(Silent(), [task for task in base if task.number in split_numbers("val")][:7], progress=False)
    assert (part.split, part.drawn_from) == (None, "val")
    val = evaluate(Silent(), [task for task in tasks if task.number in split_numbers("val")], progress=False)
    assert val.split == "val"
    for rows in (val.rows[1:], val.rows[::2], val.rows[:30]):
        part = replace(val, rows=rows)
        assert (part.split, part.drawn_from) == (None, "val")
    with pytest.raises(ValueError, match=r"199 are in one only.*\(200 of split all in one, 1 in the other\)"):
        compare(whole, evaluate(Silent(), base[:1], progress=False))


def test_command_line(tmp_path: Path) -> None:
    runner = CliRunner()
    a, b = tmp_path / "a", tmp_path / "b.jsonl"
    sampled = runner.invoke(app, ["evaluate", "noisy", "--limit", "12", "--samples", "2", "--out", str(a)])
    assert sampled.exit_code == 0, sampled.output
    assert "pass^2" in sampled.output
    assert runner.invoke(app, ["evaluate", "oracle", "--limit", "12", "--out", str(b)]).exit_code == 0
    compared = runner.invoke(app, ["compare", str(a), str(b)])
    assert compared.exit_code == 0, compared.output
    assert "strict_task_accuracy" in compared.output
    runner.invoke(app, ["evaluate", "oracle", "--limit", "11", "--out", str(tmp_path / "c.jsonl")])
    refused = runner.invoke(app, ["compare", str(b), str(tmp_path / "c.jsonl")])
    assert refused.exit_code == 1
    assert refused.stderr.startswith("envtune: error: these runs cannot be compared: the runs do not share their tasks")
    assert len(refused.stderr.splitlines()) == 1
    assert runner.invoke(app, ["compare", str(b), str(tmp_path / "none")]).exit_code == 1
