"""Our verdict and the official one on the same messages, and what the official process may not do."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from envtune.benchmark.confined import verdicts
from envtune.benchmark.official import Verdict
from envtune.benchmark.rescore import (
    CAUSES,
    LAST_TURN,
    NO_VERDICT,
    READ_DIFFERENTLY,
    rescore,
    rescore_episodes,
)
from envtune.benchmark.result_files import write_results
from envtune.chat import render_calls
from envtune.cli import app
from envtune.environment import ToolUseEnv
from envtune.evaluation import evaluate
from envtune.policy import load_policy
from envtune.types import Episode, Task, ToolCall


def played(task: Task, first: str = "", last: ToolCall | None = None) -> Episode:
    """The ground truth, but for the first message, and `last` over and over in the last turn."""
    env = ToolUseEnv(task)
    env.reset()
    if first:
        env.step(first)
    while not env.done:
        turn = env.turn
        for call in task.ground_truth[turn] if turn or not first else ():
            env.step(render_calls([call]))
        while last and turn == task.n_turns - 1 and not env.done:
            env.step(render_calls([last]))
        if not env.done:
            env.step("Done.")
    return env.episode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "every"),
    [("oracle", 1), ("silent", 1), ("noisy:0.05", 4), ("noisy:0.2", 1), ("noisy:0.5", 1), ("noisy:0.9", 4)],
)
def test_no_unexplained_difference_over_all_instances(tasks: list[Task], policy: str, every: int) -> None:
    """All instances for four agents; a quarter for the two whose episodes are like those of the oracle or few turns."""
    some = tasks[::every]
    found = rescore_episodes(evaluate(load_policy(policy, seed=3), some, progress=False).episodes, some)
    assert len(found.items) == 800 / every
    assert found.unexplained == []
    assert all(item.official.reached for item in found.items)
    table = found.table()
    assert table.loc["all", "n"] == 800 / every
    assert set(found.differences().cause) <= set(CAUSES)
    if policy.startswith("noisy:0.2"):
        assert 0.2 < table.loc["all", "official"] < 0.8, "both verdicts must occur for the check to mean anything"


@pytest.mark.slow
def test_no_unexplained_difference_of_the_tiny_policy(tasks: list[Task]) -> None:
    found = rescore_episodes(evaluate(load_policy("tiny"), tasks[::50], progress=False).episodes, tasks)
    assert len(found.items) == 16
    assert found.unexplained == []


def test_a_result_file_and_the_run_it_came_from_agree(tasks: list[Task], tmp_path: Path) -> None:
    some = [task for task in tasks if task.number % 20 == 7]
    run = tmp_path / "run.jsonl"
    result = evaluate(load_policy("noisy:0.3"), some, run, progress=False)
    write_results(tmp_path / "result", "model", result.episodes)
    of_run, of_files = rescore(run, tasks), rescore(tmp_path / "result", tasks, partial=True)
    assert {i.task_id: (i.ours, i.official) for i in of_run.items} == {
        i.task_id: (i.ours, i.official) for i in of_files.items
    }
    assert Counter(item.ours for item in of_run.items)[True] == sum(row.success for row in result.rows)


def test_a_difference_in_reading_is_named(by_id: dict[str, Task]) -> None:
    task = by_id["multi_turn_base_0"]
    first = render_calls(task.ground_truth[0])
    broken = played(task, first + "\n<tool_call>\n{broken\n</tool_call>")
    found = rescore_episodes([broken], [task])
    assert [(i.ours, i.official.valid, i.cause) for i in found.items] == [(False, True, READ_DIFFERENTLY)]
    assert found.unexplained == []
    assert found.differences().iloc[0].cause == READ_DIFFERENTLY


def test_an_episode_cut_off_in_its_last_turn_is_named(tasks: list[Task]) -> None:
    task = next(task for task in tasks if not task.withheld)
    (item,) = rescore_episodes([played(task, last=ToolCall("no_such_tool", {}))], [task]).items
    assert (item.ours, item.official.valid, item.cause) == (False, True, LAST_TURN)


def test_what_hangs_or_dies_has_no_verdict_and_the_next_one_has(by_id: dict[str, Task], tmp_path: Path) -> None:
    task = by_id["multi_turn_base_0"]
    truth = [
        [[f"{c.name}({','.join(f'{k}={v!r}' for k, v in c.arguments.items())})" for c in turn]]
        for turn in task.ground_truth
    ]
    rest = truth[1:]
    marker = tmp_path / "written"
    bad = [
        "sum(iter(int, 1))",
        "__import__('os')._exit(0)",
        "'x' * 10**11",
        f"open({str(marker)!r}, 'w').write('x')",
        f"__import__('os').system('touch {marker}')",
        f"__import__('pathlib').Path({str(marker)!r}).touch()",
        "print('x')",
        "input()",
    ]
    work = [(task, [[[*truth[0][0], text]], *rest]) for text in bad]
    start = time.monotonic()
    found = list(verdicts([*work, (task, truth)], seconds=3))
    assert len(found) == len(bad) + 1
    assert [verdict.reached for verdict in found[:2]] == [False, False]
    assert found[-1] == Verdict(True, None)
    assert not marker.exists()
    assert time.monotonic() - start < 300


def test_a_checker_that_does_not_start_is_one_line(by_id: dict[str, Task], monkeypatch: pytest.MonkeyPatch) -> None:
    work = [(by_id["multi_turn_base_0"], [])]
    with pytest.raises(OSError, match=r"died at its start\. `envtune doctor`"):
        next(verdicts(work, memory_mb=-(10**20)))
    monkeypatch.setattr("envtune.benchmark.confined.START_SECONDS", 0.0)
    with pytest.raises(OSError, match="did not start within 0 s"):
        next(verdicts(work))


def test_no_verdict_is_a_difference(by_id: dict[str, Task], monkeypatch: pytest.MonkeyPatch) -> None:
    task = by_id["multi_turn_base_0"]
    episode = played(task)
    assert rescore_episodes([episode], [task]).differences().empty
    monkeypatch.setattr("envtune.benchmark.confined.verdicts", lambda work: [Verdict(False, "unfinished: too slow")])
    found = rescore_episodes([episode], [task])
    assert [i.cause for i in found.items if i.differs] == [NO_VERDICT]


def test_command_line(tasks: list[Task], tmp_path: Path) -> None:
    runner = CliRunner()
    arguments = [
        "evaluate",
        "noisy:0.3",
        "--limit",
        "8",
        "--out",
        str(tmp_path / "run.jsonl"),
        "--export",
        str(tmp_path),
    ]
    played = runner.invoke(app, arguments)
    assert played.exit_code == 0, played.output
    assert "BFCL_v4_multi_turn_base_result.json" in played.output.replace("\n", "")
    for what in ([str(tmp_path / "run.jsonl")], [str(tmp_path / "noisy"), "--partial"]):
        rescored = runner.invoke(app, ["rescore", *what])
        assert rescored.exit_code == 0, rescored.output
        assert "unexplained" in rescored.output
    for wrong, message in {
        ("rescore", str(tmp_path / "noisy")): "no whole split",
        ("rescore", str(tmp_path / "none.json")): "no result file at",
        ("evaluate", "oracle", "--category", "nosuch"): "unknown categories ['nosuch']",
        ("evaluate", "nosuch/none/x"): "there is no checkpoint",
    }.items():
        failed = runner.invoke(app, [*wrong])
        assert failed.exit_code == 1
        assert len(failed.stderr.splitlines()) == 1
        assert message in failed.stderr
    assert runner.invoke(app, ["evaluate"]).exit_code == 2
    for wrong in (["--export", str(tmp_path), "--samples", "2"], ["--export-as", "owner/model"]):
        assert runner.invoke(app, ["evaluate", "noisy:0.3", "--limit", "1", *wrong]).exit_code == 2
    named = ["--export", str(tmp_path), "--export-as", "owner/model-FC"]
    assert runner.invoke(app, ["evaluate", "oracle", "--limit", "1", *named]).exit_code == 0
    assert len(list((tmp_path / "owner_model-FC" / "multi_turn").iterdir())) == 1
