"""A run against the published one: equal, inside, outside, missing; and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stub_project import ROOT
from typer.testing import CliRunner

from envtune.cli import app
from envtune.workbook.errors import SeriesError
from envtune.workbook.measured import Number, Source, numbers, wilson
from envtune.workbook.reproduction import Verdict, against_published, compare, reproduction

runner = CliRunner()


def manifest(answer: dict[str, Any], **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "notebook": "04_x",
        "key": "k",
        "outputs": {},
        "answer": {"headline": "Half of 3.", "detail": "", "results": [], **answer},
        "parameters": {"run": "r", "results": "results", "seed": 0, "policy": "tiny"},
        "inputs": {},
        "code": {"revision": "a" * 40, "dirty": False, "source_hash": "s"},
        "data": {"bfcl-eval": "1"},
        "versions": {"torch": "2.0", "numpy": "2.3"},
        "machine": {"system": "Linux", "cpu": "CPU", "cores": 2, "memory_gb": 8.0, "gpus": []},
    }
    return made | changes


def compared(mine: dict[str, Any], published: dict[str, Any], tables: tuple[dict, dict] = ({}, {})):
    return compare({"04_x": Source(mine, tables[0])}, {"04_x": Source(published, tables[1])}, "r")


def verdicts(found) -> dict[str, Verdict]:
    return {record.number: record.verdict for record in found.records}


def test_every_kind_of_number_of_an_answer():
    published = {
        "accuracy": {"before": 0.2, "after": 0.5},
        "gain": [0.1, -0.1, 0.3],
        "score": 11.5,
        "steps": 40,
        "speed_ratio": 12.0,
        "gone": 0.5,
        "validation_tasks": 100,
        "seed": 0,
        "official": True,
    }
    mine = published | {"accuracy": {"before": 0.2, "after": 0.55}, "gain": [0.4, 0.2, 0.6], "score": 12.0}
    mine |= {"speed_ratio": 3.0, "seed": 1, "official": False}
    del mine["gone"]
    found = compared(manifest(mine), manifest(published))
    assert verdicts(found) == {
        "accuracy.before": Verdict.EQUAL,
        "accuracy.after": Verdict.INSIDE,
        "gain": Verdict.OUTSIDE,
        "score": Verdict.UNJUDGED,
        "steps": Verdict.EQUAL,
        "speed_ratio": Verdict.TIMED,
        "gone": Verdict.MISSING,
        "validation_tasks": Verdict.EQUAL,
    }
    after = next(record for record in found.records if record.number == "accuracy.after")
    assert after.interval == pytest.approx((0.4038, 0.5962), abs=1e-4), "Wilson's, of 100 tasks"
    assert not found.ok
    assert found.sentence() == (
        "not reproduced: 3 numbers equal, 1 inside the published interval, 1 outside, 1 not in this run, "
        "1 different, without an interval to judge by"
    )
    assert [record.verdict for record in found.different][:2] == [Verdict.OUTSIDE, Verdict.MISSING]


def test_where_nothing_is_learned_a_number_without_an_interval_must_be_equal():
    plain = {"run": "r", "results": "results", "seed": 0}
    found = compared(manifest({"kinds": 115}, parameters=plain), manifest({"kinds": 116}, parameters=plain))
    assert verdicts(found) == {"kinds": Verdict.OUTSIDE}


def test_rows_of_results_carry_their_intervals():
    row = {"what": "turn accuracy", "value": 0.5, "baseline": 0.1, "low": 0.4, "high": 0.6, "n": 50, "unit": "share"}
    count = {"what": "kinds never solved", "value": 1, "low": None, "high": None, "n": 12, "unit": "count"}
    published = manifest({"results": [row, count], "turn_accuracy": 0.5})
    mine = manifest({"results": [row | {"value": 0.61}, count | {"value": 2}], "turn_accuracy": 0.61})
    found = compared(mine, published)
    assert verdicts(found) == {"turn accuracy": Verdict.OUTSIDE, "kinds never solved": Verdict.INSIDE}


def test_tables_that_carry_intervals():
    def rows(*values: str) -> list[dict[str, str]]:
        return [
            {"kind": kind, "n": "10", "after": value, "after_low": low, "after_high": high, "calls": "3"}
            for kind, value, low, high in zip(("cat", "cd"), values, ("0.4", "1.0"), ("0.6", "1.0"), strict=True)
        ]

    difference = {"better": "a", "than": "b", "difference": "0.1", "low": "0.0", "high": "0.2"}
    arms = {"arm": "ppo", "seed": "1", "episodes": "400", "accuracy": "0.5", "error_rate": "0.1"}
    published = {"kinds": rows("0.5", "1.0"), "arms": [arms], "d": [difference], "e": []}
    mine = {
        "kinds": rows("0.59", "0.9"),
        "arms": [arms | {"accuracy": "0.6"}],
        "d": [difference | {"difference": "0.3"}],
    }
    found = compared(manifest({}), manifest({}), (mine, published))
    assert verdicts(found) == {
        "kinds: cat, after": Verdict.INSIDE,
        "kinds: cd, after": Verdict.INSIDE,  # ten of ten is no proof of all: the binomial interval
        "arms: ppo, 1, accuracy": Verdict.OUTSIDE,
        "d: a, b, difference": Verdict.OUTSIDE,
    }


def test_wilson_and_intervals():
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)  # R: prop.test(5, 10, correct = FALSE)
    assert Number(0.5).interval() is None
    assert Number(11.5, n=100).interval() is None, "not a share"
    assert Number(0.5, 0.4, 0.7, n=10).interval() == (0.4, 0.7)
    assert numbers(Source(manifest({"nested": [{"a": 1}, 2.5]}), {})).keys() == {"nested.0.a", "nested.1"}


@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"parameters": {"seed": 1, "policy": "tiny"}}, "other seed", "seed 1, published 0"),
        ({"parameters": {"seed": 0, "policy": "x"}}, "other parameters", "policy x, published tiny"),
        ({"code": {"revision": None, "source_hash": "t"}}, "other code", "revision unknown, published aaaaaaaaaa"),
        ({"data": {"bfcl-eval": "2"}}, "other data", "bfcl-eval 2, published 1"),
        ({"versions": {"torch": "2.1"}}, "other packages", "torch 2.1, published 2.0"),
        ({"inputs": {"../hints/summary.csv": "1"}}, "other runs read", "hints"),
        (
            {"machine": {"system": "Linux", "cpu": "CPU", "cores": 4, "memory_gb": 9.0, "gpus": []}},
            "other machine",
            "cores 4, published 2",
        ),
        ({}, "same seed, code, data, packages and kind of machine: the order of sums", ""),
    ],
)
def test_the_likely_reason(changes, reason, said):
    found = compared(manifest({"score": 2.5}, **changes), manifest({"score": 3.5}))
    assert [record.reason for record in found.records] == [reason]
    assert found.reasons == {"04_x": (f"{reason} ({said})" if said else reason,)}
    assert compared(manifest({"score": 3.5}, **changes), manifest({"score": 3.5})).reasons == {}


def written(folder: Path, made: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(made))
    return folder


def test_the_command(tmp_path, monkeypatch):
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    published = tmp_path / "results/published/r"
    written(published / "04_x", manifest({"gain": [0.1, 0.0, 0.2]}))
    written(tmp_path / "results/r/04_x", manifest({"gain": [0.15, 0.0, 0.3]}))
    done = runner.invoke(app, ["reproduced", "r"])
    assert done.exit_code == 0, done.output
    assert "reproduced: 0 numbers equal, 1 inside the published interval, 0 outside" in done.output
    assert "0.15" in done.output
    written(published / "05_y", manifest({"n": 1}))
    done = runner.invoke(app, ["reproduced", "results/r"])
    assert done.exit_code == 1
    assert "incomplete: 0 numbers equal, 1 inside the published interval, 0 outside, not run: 05" in done.stderr
    done = runner.invoke(app, ["reproduced", "r", "--with", "s"])
    assert done.exit_code == 1
    assert "no published run 's' to compare with. Published: r" in done.stderr
    assert runner.invoke(app, ["reproduced", "none"]).exit_code == 1


def test_nothing_to_compare(tmp_path):
    assert against_published(tmp_path / "results/r", tmp_path) is None
    with pytest.raises(SeriesError, match="no results of a run in"):
        reproduction(tmp_path / "results/r", tmp_path)


def test_an_experiment_is_compared_by_its_tables(tmp_path):
    for folder, accuracy in ((tmp_path / "results/published/arms", 0.5), (tmp_path / "results/mine", 0.52)):
        made = manifest({})
        del made["answer"], made["inputs"]
        written(folder, made)
        (folder / "summary.csv").write_text(f"arm,seed,category,episodes,accuracy\nppo,0,all,400,{accuracy}\n")
    found = reproduction(tmp_path / "results/mine", tmp_path, "arms")
    assert verdicts(found) == {"summary: ppo, 0, all, accuracy": Verdict.INSIDE}
    assert found.ok


def test_the_published_runs_reproduce_themselves():
    """Every number there is read, and none is outside of its own interval."""
    for folder in sorted((ROOT / "results/published").iterdir()):
        found = reproduction(folder, ROOT)
        assert found.ok and len(found.records) > 50
        known = [(*record.interval, record.published) for record in found.records if record.interval]
        assert [each for each in known if not each[0] - 1e-9 <= each[2] <= each[1] + 1e-9] == []
