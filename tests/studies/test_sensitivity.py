"""One thing at a time is varied, the study goes on after a kill, and its tables count right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from envtune.cli import app
from envtune.environment.rules import DEFAULT, PROTOCOLS, Rules
from envtune.evaluation import evaluate
from envtune.policy import Noise, NoisyOracle, Oracle
from envtune.policy.base import Chat, Policy
from envtune.studies.repairer import Repairer
from envtune.studies.sensitivity import Kind, Study, Variation, detectable, ranges, sensitivity, shifts, variations
from envtune.types import Task

FIELD = {Kind.STEP_LIMIT: "max_steps_per_turn", Kind.TOOL_ORDER: "tool_seed"}
KINDS = list(Kind)


@pytest.fixture(scope="module")
def some(tasks: list[Task]) -> list[Task]:
    return tasks[::40]


def noisy(seed: int, temperature: float = 0.0) -> NoisyOracle:
    return NoisyOracle(Noise.level(0.2), seed)


def play(load: Callable[[int, float], Policy], tasks: Sequence[Task], folder: Path | None = None, **how) -> Study:
    return sensitivity(load, tasks, folder, progress=False, **how)


@pytest.mark.parametrize(
    "baseline", [DEFAULT, *PROTOCOLS.values(), Rules(7, tool_seed=1)], ids=lambda b: b.name or "own"
)
def test_a_variation_changes_one_thing(baseline: Rules) -> None:
    first, *varied = variations(baseline, seed=5)
    assert first == Variation(Kind.BASELINE, baseline.name or "default", baseline, 5)
    assert len({variation.file for variation in (first, *varied)}) == len(varied) + 1
    assert list(dict.fromkeys(variation.kind for variation in varied)) == KINDS[1:]
    names = {"name": "", "source": ""}
    for variation in varied:
        rules, before = (asdict(replace(each, **names)) for each in (variation.rules, baseline))
        changed = {name for name in rules if rules[name] != before[name]}
        if variation.kind == "protocol":
            assert variation.rules is PROTOCOLS[variation.value]
            assert changed
        else:
            assert changed == ({FIELD[variation.kind]} if variation.kind in FIELD else set())
        assert (variation.seed != 5) == (variation.kind == "seed")
    for kind in Kind:
        assert variations(baseline, 5, kinds=[kind]) == (first, *(each for each in varied if each.kind is kind))
    assert not any(variation.rules == baseline and variation.seed == 5 for variation in varied)


def test_a_killed_study_goes_on_with_the_same_bytes(some: list[Task], tmp_path: Path) -> None:
    whole = play(noisy, some, tmp_path / "whole")
    content = {file.name: file.read_bytes() for file in (tmp_path / "whole").iterdir()}
    assert sorted(content) == sorted(variation.file for variation in whole)
    (tmp_path / "killed").mkdir()
    for i, (name, written) in enumerate(sorted(content.items())):
        if i % 3:
            (tmp_path / "killed" / name).write_bytes(written[: len(written) * (i % 3) // 2])
    assert play(noisy, some, tmp_path / "killed") == whole
    assert {file.name: file.read_bytes() for file in (tmp_path / "killed").iterdir()} == content


def test_a_variation_is_the_evaluation_by_its_rules(some: list[Task]) -> None:
    study = play(noisy, some, baseline=PROTOCOLS["t3rl"], seed=2)
    for variation in list(study)[::3]:
        assert study[variation] == evaluate(noisy(variation.seed), some, rules=variation.rules, progress=False)


def test_each_agent_is_loaded_once_and_sampled_as_the_rules_say(some: list[Task]) -> None:
    loaded: list[tuple[int, float]] = []

    def load(seed: int, temperature: float) -> Policy:
        loaded.append((seed, temperature))
        policy = noisy(seed)
        policy.settings |= {"temperature": temperature}
        return policy

    study = play(load, some[:2], temperature=0.7, repeats=2)
    assert loaded[0] == (0, 0.7)
    assert sorted(loaded) == [(0, 0.001), (0, 0.7), (1, 0.7), (2, 0.7)]
    assert [variation.kind for variation in study] == [each.kind for each in variations(repeats=2)]


def test_seeds_are_left_out_where_they_change_nothing(some: list[Task]) -> None:
    study = play(lambda seed, temperature: Oracle(), some[:4])
    assert {variation.kind for variation in study} == set(KINDS) - {Kind.SEED}


def test_the_agent_reads_the_tools_in_another_order(some: list[Task]) -> None:
    """An agent that always calls the first tool of the list."""

    class First(Oracle):
        def _next(self, chat: Chat) -> str:
            first = chat.tools[0]["function"]["name"] if chat.tools else "none"
            return f'<tool_call>\n{{"name": "{first}", "arguments": {{}}}}\n</tool_call>' if not chat.step else "Done."

    study = play(lambda seed, temperature: First(), some[:4])
    orders = {
        variation.value: [episode.turns[0].steps[0].calls[0].name for episode in result.episodes]
        for variation, result in study.items()
        if variation.kind in ("baseline", "tool-order")
    }
    assert len({tuple(called) for called in orders.values()}) == 4
    assert orders["default"] == [task.tools[0]["function"]["name"] for task in some[:4]]


@pytest.fixture(scope="module")
def study(some: list[Task]) -> Study:
    return play(lambda seed, temperature: Repairer(seed=seed), some)


def test_shifts_are_counted(study: Study, some: list[Task]) -> None:
    table = shifts(study).reset_index()
    base = next(iter(study.values()))
    assert list(dict.fromkeys(table.varied)) == KINDS
    for row, result in zip(table.itertuples(), study.values(), strict=True):
        verdicts = [(now.success, before.success) for now, before in zip(result.rows, base.rows, strict=True)]
        assert row.n == len(some)
        assert row.score == pytest.approx(result.accuracy)
        assert row.score_low <= row.score <= row.score_high
        assert row.difference == pytest.approx(result.accuracy - base.accuracy)
        assert row.difference_low <= row.difference <= row.difference_high
        assert row.changed == pytest.approx(sum(now != before for now, before in verdicts) / len(some))
    order = table[table.varied == "tool-order"]
    assert not order.changed.any(), "this agent does not read the list of tools"
    assert table[table.varied == "seed"].changed.all()
    progress = shifts(study, "progress")
    assert progress.score.iloc[0] == pytest.approx(sum(row.progress for row in base.rows) / len(some))
    with pytest.raises(ValueError, match=r"unknown metric 'x'\. Known: task_accuracy"):
        shifts(study, "x")


def test_ranges_hold_the_baseline(study: Study) -> None:
    table = shifts(study)
    found = ranges(table)
    for kind in KINDS[1:]:
        scores = [table.score.iloc[0], *table.loc[kind].score]
        assert tuple(found.loc[kind]) == pytest.approx((min(scores), max(scores), max(scores) - min(scores)))


def test_what_is_detectable(study: Study) -> None:
    found = detectable(study)
    assert list(found.index) == ["unpaired", *(f"paired, {kind}" for kind in KINDS[1:])]
    assert found.loc["paired, tool-order"].isna().tolist() == [False, True, True], "no task tells how far others differ"
    rest = found.loc[["unpaired", "paired, seed"]]
    assert (rest.true / rest.observed).tolist() == pytest.approx([2.80 / 1.96] * len(rest), rel=0.002)
    assert detectable(study, instances=100).observed["unpaired"] == pytest.approx(2 * found.observed["unpaired"])


def test_a_difference_is_clear_if_it_is_larger_than_what_is_detectable(some: list[Task]) -> None:
    """The table's threshold and the interval of the paired difference say the same."""
    study = play(noisy, some, repeats=8)
    one_by_one = [dict(list(study.items())[:1]) | {each: study[each]} for each in study if each.kind == "seed"]
    said = []
    for pair in one_by_one:
        (row,) = shifts(pair).iloc[1:].itertuples()
        needed = detectable(pair, instances=len(some)).observed["paired, seed"]
        if abs(abs(row.difference) - needed) > 0.25 * needed:  # the bootstrap's ends are not symmetric
            assert (abs(row.difference) > needed) == (row.difference_low > 0 or row.difference_high < 0)
            said.append(pair)
    assert len(said) >= 4


def test_command_line(tmp_path: Path) -> None:
    runner = CliRunner()
    command = ["sensitivity", "noisy:0.2", "--limit", "8", "--repeats", "1", "--out", str(tmp_path)]
    done = runner.invoke(app, command)
    assert done.exit_code == 0, done.output
    assert all(text in done.output for text in ("step-limit", "shuffle 0", "t3rl", "paired, seed", str(tmp_path)))
    written = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert len(written) == 9
    again = runner.invoke(app, [*command, "--metric", "progress"])
    assert again.exit_code == 0
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == written
    named = [*command, "--vary", "step-limit", "--vary", "seed"]
    few = runner.invoke(app, named).output
    assert "tool-order" not in few
    assert "step-limit" in few
    for option in (["--vary", "x"], ["--metric", "x"]):
        wrong = runner.invoke(app, ["sensitivity", "oracle", *option])
        assert (wrong.exit_code, "'x'. Known: " in wrong.stderr.replace("\n", " ")) == (2, True)
    greedy = runner.invoke(app, ["sensitivity", "oracle", "--limit", "4"])
    assert "seeds: not varied" in greedy.output
    other = runner.invoke(app, [*command, "--seed", "1"])
    assert other.exit_code == 1
    assert other.stderr.splitlines()[-1].startswith("envtune: error: ")
