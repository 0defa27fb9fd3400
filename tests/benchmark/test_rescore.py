"""Our verdict and the official one on the same messages, and what the official process may not do."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from envtune.benchmark.confined import Runner
from envtune.benchmark.official import Verdict, call_string, results, verdict
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
from envtune.policy.noise import Noise, perturb
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


HOSTILE = [
    "sum(iter(int, 1))",
    "__import__('os')._exit(0)",
    "'x' * 10**11",
    "open({marker!r}, 'w').write('x')",
    "__import__('os').system('touch {marker}')",
    "__import__('pathlib').Path({marker!r}).touch()",
    "__import__('socket').socket().connect(('127.0.0.1', 9))",
    "print('x')",
    "input()",
]
"""Expressions. The first two cost the process its life."""


@pytest.mark.parametrize(
    "model",
    [
        "ibm-granite/granite-20b-functioncalling",  # text that is no JSON goes to the executor as it is
        "meta-llama/Llama-3.1-8B-Instruct-FC",  # the decoder itself evaluates the text
    ],
)
def test_what_hangs_or_dies_has_no_verdict_and_the_next_one_has(
    by_id: dict[str, Task], tmp_path: Path, model: str
) -> None:
    task = by_id["multi_turn_base_0"]
    truth = [[message(model, call) for call in turn] for turn in task.ground_truth]
    marker = tmp_path / "written"
    start = time.monotonic()
    with Runner([model], seconds=3) as runner:
        found = [
            runner.judge(task, [[*truth[0], text.format(marker=str(marker))], *truth[1:]]).verdict for text in HOSTILE
        ]
        assert [verdict.reached for verdict in found[:2]] == [False, False]
        assert runner.judge(task, truth).verdict == Verdict(True, None)
    assert not marker.exists()
    assert time.monotonic() - start < 100


def message(model: str, call: ToolCall) -> str:
    return call_string(call) if "granite" in model else repr({"name": call.name, "parameters": call.arguments})


def test_a_process_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match=r"failed at its start \(OverflowError: .*`envtune doctor`"):
        Runner(memory_mb=-(10**20)).start()
    monkeypatch.setattr("envtune.benchmark.confined.START_SECONDS", 0.0)
    with pytest.raises(OSError, match="did not start: no answer within 0 s"):
        Runner().start()


def test_a_script_without_a_main_guard(by_id: dict[str, Task], tmp_path: Path) -> None:
    write_results(tmp_path, "Qwen/Qwen3-8B-FC", [played(by_id["multi_turn_base_0"])])
    script = tmp_path / "script.py"
    script.write_text(
        "import envtune\nfrom envtune.benchmark.rescore import rescore\n"
        f"print(rescore({str(tmp_path)!r}, envtune.load_tasks('bfcl'), partial=True).items[0].official)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("Verdict(valid=True, error_type=None)\n", "")


def test_no_verdict_is_a_difference(by_id: dict[str, Task], monkeypatch: pytest.MonkeyPatch) -> None:
    task = by_id["multi_turn_base_0"]
    assert rescore_episodes([played(task)], [task]).differences().empty
    monkeypatch.setattr("envtune.benchmark.confined.SECONDS", 2.0)
    endless = played(task, render_calls([ToolCall("sum(iter(int, 1)) or ls", {})]))
    found = rescore_episodes([endless], [task])
    assert [i.cause for i in found.items if i.differs] == [NO_VERDICT]
    assert math.isnan(found.table().loc["all", "official"]), "no verdict is not a wrong answer"
    assert found._view_().line == "a run · 1 instance · 1 differences, 0 unexplained"
    assert "<td" in found._repr_html_() and NO_VERDICT in found._repr_html_()


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
    assert "Note: 'noisy' is not a model of the official registry" in rescored.output
    for wrong, message in {
        ("rescore", str(tmp_path / "noisy")): "no whole split",
        ("rescore", str(tmp_path / "none.json")): "no result file at",
        ("evaluate", "oracle", "--category", "nosuch"): "unknown categories ['nosuch']",
        ("evaluate", "nosuch/none/x"): "there is no checkpoint",
        (
            "rescore",
            str(tmp_path / "noisy"),
            "--partial",
            "--handler",
            "nosuch",
        ): "'nosuch' is not a model of the official",
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


def lines(tasks: list[Task], **more: object) -> list[dict[str, Any]]:
    """The ground truth as native calls."""
    return [
        {
            "id": task.id,
            "result": [[*([{c.name: c.arguments}] for c in turn), ["Done."]] for turn in task.ground_truth],
            **more,
        }
        for task in tasks
    ]


def write(folder: Path, content: list[dict[str, Any]], name: str = "BFCL_v4_multi_turn_base_result.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in content))
    return folder


def test_an_answer_that_is_a_list_of_texts_is_read(tasks: list[Task], tmp_path: Path) -> None:
    found = rescore(write(tmp_path / "claude-opus-4-5-20251101-FC", lines(tasks[:3])), tasks, partial=True)
    assert [(item.ours, item.official.valid) for item in found.items] == [(True, True)] * 3


def test_errors_of_the_runner_are_counted_and_named(tasks: list[Task], tmp_path: Path) -> None:
    content = lines(tasks[:5])
    for line in content[1:3]:
        line["result"] = "Error during inference: 429"
    found = rescore(write(tmp_path / "gpt-4o-2024-11-20-FC", content), tasks, partial=True)
    assert found.table().loc["all", ["n", "official", "runner errors"]].tolist() == [5, 0.6, 2]
    assert found.notes == (
        "2 of 5 instances hold an error of the runner, not an answer, such as multi_turn_base_1: "
        "'Error during inference: 429'. Both verdicts count them as failed",
    )
    for line in content:
        line["result"] = "Error during inference: 429"
    with pytest.raises(ValueError, match=r"_base_result\.json: all 5 instances hold an error of the runner, such as"):
        rescore(write(tmp_path / "gpt-4o-2024-11-20-FC", content), tasks, partial=True)


def test_a_file_in_which_nothing_reads_as_a_call_is_an_error(tasks: list[Task], tmp_path: Path) -> None:
    content = lines(tasks[:3])
    folder = write(tmp_path / "gpt-4o-2024-11-20", content)  # the prompting handler cannot read native calls
    with pytest.raises(ValueError, match=r"handler of gpt-4o-2024-11-20 reads no call .* `--handler MODEL`"):
        rescore(folder, tasks, partial=True)
    found = rescore(folder, tasks, partial=True, handler="gpt-4o-2024-11-20-FC")
    assert found.table().loc["all", "official"] == 1.0
    with pytest.raises(ValueError, match=r"'unheard-of' is not a model of the official registry, .* `--handler MODEL`"):
        rescore(write(tmp_path / "unheard-of", content), tasks, partial=True)


def test_files_of_another_version_are_read_and_what_changed_is_named(tasks: list[Task], tmp_path: Path) -> None:
    name = "BFCL_v3_multi_turn_base_result.json"
    log = [[{"role": "state_info", "class_name": "x", "content": {}}]]
    content = [
        line | {"inference_log": [*log, *logged(task)]} for task, line in zip(tasks[:5], lines(tasks[:5]), strict=True)
    ]
    content[1]["inference_log"][1]["step_0"][-1]["content"] = "an answer of another version"
    content[2]["result"][0].append([{"renamed_tool": {}}])
    content[3]["result"].append([["Done."]])
    content[4]["id"] = "multi_turn_base_999"
    found = rescore(write(tmp_path / "gpt-4o-2024-11-20-FC", content, name), tasks, partial=True)
    assert len(found.items) == 4
    assert [note.split(".")[0].split(", as after")[0] for note in found.notes] == [
        "The files are of BFCL_v3",
        "1 instances, such as multi_turn_base_999, are not in these data and are left out",
        "1 instances, such as multi_turn_base_3, hold more turns than these data, so they fail",
        "1 calls, such as in multi_turn_base_2, name a tool that these data do not have",
        "In 2 instances, such as multi_turn_base_1, the tools do not return what the files log",
    ]
    assert found.notes[-1].endswith("Official accuracy in these: 100.0%, in the 2 where nothing changed: 50.0%")
    today = write(tmp_path / "today" / "gpt-4o-2024-11-20-FC", content[:1])
    assert rescore(today, tasks, partial=True).notes == (), "the log says what the tools say today"


OFFICIAL_RUN = """
import json, os, sys
from pathlib import Path
from types import SimpleNamespace as Record
from envtune.benchmark import confined, handlers

os.environ.update(confined.ENVIRONMENT)
runner = handlers.OfficialRunner()
runner.choose(["meetkai/functionary-medium-v3.1-FC"])
for entry, turns in json.load(sys.stdin):
    replies = (step for turn in turns for step in [*turn, []])

    def reply(**_):
        calls = [Record(id="0", function=Record(name=name, arguments=json.dumps(a))) for name, a in next(replies)]
        message = Record(tool_calls=calls or None, content="Done.")
        return Record(choices=[Record(message=message)], usage=Record(prompt_tokens=1, completion_tokens=1)), 0.1

    runner._handler.generate_with_backoff = reply
    result, log = runner._handler.inference(entry, False, False)
    runner._handler.write({"id": entry["id"], "result": result, **log}, Path(sys.argv[1]))
"""
"""The official runner's own loop, with trajectories where a model would answer."""


def test_files_that_the_official_runner_wrote(tasks: list[Task], tmp_path: Path) -> None:
    some = tasks[::20]
    trajectories = {task.id: perturb(task, Noise.level(0.3), seed=5) for task in some}
    entries = [
        {
            "id": task.id,
            "question": [[{"role": "user", "content": text}] for text in task.user_turns],
            "function": [],
            "initial_config": task.initial_config,
            "involved_classes": task.involved_classes,
        }
        for task in some
    ]
    turns = [
        [[[(c.name, c.arguments) for c in step] for step in turn] for turn in trajectories[task.id]] for task in some
    ]
    work = json.dumps(list(zip(entries, turns, strict=True)))
    command = [sys.executable, "-c", OFFICIAL_RUN, str(tmp_path)]
    subprocess.run(command, input=work, text=True, check=True, stdout=subprocess.DEVNULL)
    found = rescore(tmp_path, tasks, partial=True)
    assert (found.model, found.notes) == ("meetkai/functionary-medium-v3.1-FC", ())
    assert [item.official for item in found.items] == [
        verdict(task, trajectories[task.id]) for item in found.items for task in some if task.id == item.task_id
    ]
    assert {(item.ours, item.official.valid) for item in found.items} == {(True, True), (False, False)}
    assert [item.drifted for item in found.items] == [False] * 40, "the tools return what the official runner logged"


def logged(task: Task) -> list[dict[str, Any]]:
    """The runner's log of the ground truth, one call a step."""
    texts = iter(results(task, [[[call] for call in turn] for turn in task.ground_truth]))
    return [
        {"begin_of_turn_query": [], **{f"step_{i}": [tool(text) for text in step] for i, step in enumerate(turn)}}
        for turn in texts
    ]


def tool(text: str) -> dict[str, str]:
    return {"role": "tool", "content": text}
