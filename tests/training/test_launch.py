"""Several processes: the same episodes and numbers as one, errors in one line, and none outlives who started them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

import envtune
from envtune.data.splits import task_digest
from envtune.policy.checkpoint import load_checkpoint
from envtune.training.curriculum import Stage
from envtune.training.launch import (
    FAILED,
    LaunchError,
    _run,
    config_file,
    launch_command,
    processes,
    tasks_from_json,
    tasks_to_json,
)
from envtune.training.machine import Machine
from envtune.training.plan import Plan, Schedule
from envtune.training.train import train
from envtune.types import Category, Episode

CPU = "params/accelerate/cpu-2.yaml"
STAGE = Stage(
    "two", "syntax", steps=2, message_tokens=48, episode_tokens=200, source="synth", tasks=8,
    categories=(Category.BASE,), num_generations=4, prompts_per_step=4, learning_rate=1e-5, max_steps_per_turn=4,
    temperature=1.6, beta=0.05, entropy=0.001, drop_zero_spread=True,
)  # fmt: skip
OFTEN = Schedule(validate_every=1, validate_tasks=5, save_every=1)
STAGES = (STAGE, replace(STAGE, name="more", steps=1))
PLAN = Plan(STAGES, "tiny", machine=Machine(micro_batch=4, keep_rollouts=1), schedule=OFTEN)
TWO = replace(PLAN, launch=CPU)
LIKE = {"entropy": 1e-4, "kl": 1e-2, "loss": 1e-2, "grad_norm": 1e-2}
"""Numbers that depend on the order of a sum; the rate is low, so that it decides no token of the next step."""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A run in two processes."""
    seen = []
    result = train(TWO, tmp_path_factory.mktemp("two"), on_step=seen.append, progress=False)
    assert seen == result.lines()
    assert [(line["stage"], line["step"]) for line in seen] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    return result


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.xdist_group("training")
def test_two_processes_are_as_one(two, tmp_path):
    one = train(PLAN, tmp_path / "one", progress=False)
    for mine, theirs in zip(one.lines(), two.lines(), strict=True):
        mine, theirs = ({k: v for k, v in line.items() if not k.startswith("seconds/")} for line in (mine, theirs))
        assert theirs.keys() <= mine.keys()  # other tests may have added rewards to this process
        assert {key: mine[key] for key in theirs.keys() - LIKE} == {key: theirs[key] for key in theirs.keys() - LIKE}
        for key in LIKE.keys() & mine.keys():
            assert theirs[key] == pytest.approx(mine[key], rel=LIKE[key], abs=1e-4), key
    assert 0 < one.lines()[-1]["zero_spread"] < 1, "some groups must leave the loss, others must stay"
    files = sorted((tmp_path / "one/rollouts").iterdir())
    assert [file.name for file in files] == ["1_two_00001.jsonl", "1_two_00002.jsonl", "2_more_00001.jsonl"]
    for file in files:
        assert file.read_text() == (two.metrics.parent / "rollouts" / file.name).read_text()
        assert len([Episode.from_json(line) for line in file.read_text().splitlines()]) == 16

    first, second = (load_checkpoint(str(each.policy))[0].state_dict() for each in (one, two))
    assert max(float((first[key] - second[key]).abs().max()) for key in first) < 1e-4


@pytest.mark.slow
@pytest.mark.xdist_group("training")
def test_a_refusal_in_a_process_is_the_error_here(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(LaunchError, match="holds another run: stages is None"):
        train(TWO, tmp_path, progress=False)


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        (
            "noise\n[rank1]: Traceback (most recent)\n[rank1]:   File x\n[rank1]: OSError: full\nlater\n",
            "OSError: full (",
        ),
        ("a warning\nkilled\n", "the launched processes ended with code 3, see their log {log}\na warning\nkilled"),
    ],
)
def test_what_broke_is_told(tmp_path, printed, told):
    script, log = tmp_path / "breaks.py", tmp_path / "launch.log"
    script.write_text(f"print({printed!r}, end='')\nraise SystemExit(3)\n")
    with pytest.raises(LaunchError) as error:
        _run([sys.executable, str(script)], log, tmp_path / "metrics.jsonl", print)
    assert str(error.value).startswith(told.format(log=log))
    assert str(log) in str(error.value)
    assert log.read_text() == f"{shlex.join([sys.executable, str(script)])}\n{printed}"


@pytest.mark.slow
def test_a_refusal_of_many_lines_is_one_line_and_of_the_last_processes(tmp_path):
    """Pydantic's errors have many lines."""
    log, spec = tmp_path / "launch.log", tmp_path / "launch.json"
    log.write_text(f"{FAILED} of the run before\n")
    spec.write_text(json.dumps({"processes": 1, "tasks": {"first": [{"id": 3}]}, "plan": PLAN.to_json()}))
    with pytest.raises(
        LaunchError, match=r"^\d+ validation errors for dict.*first\.0\.id Input should be a valid string"
    ):
        _run(launch_command(None, spec), log, tmp_path / "metrics.jsonl", print)
    assert log.read_text().startswith(f"{FAILED} of the run before\n")


def test_tasks_are_the_same_in_another_process():
    tasks = {"val": [*envtune.load_tasks("bfcl", categories=["miss_func"])[:3], *envtune.load_tasks("synth", n=3)]}
    told = json.loads(json.dumps(tasks_to_json(tasks)))
    assert list(map(vars, tasks_from_json(told)["val"])) == list(map(vars, tasks["val"]))
    assert task_digest(tasks_from_json(told)["val"]) == task_digest(tasks["val"])


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.xdist_group("training")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process die with its parent")
def test_no_process_outlives_a_killed_kernel_and_the_run_goes_on(two, tmp_path):
    code = f"""
        from tests_launch import TWO, train
        train(TWO, {str(tmp_path / "run")!r}, progress=False)
    """
    saved = tmp_path / "run/1_two/checkpoint-1/trainer_state.json"
    (tmp_path / "tests_launch.py").write_text(Path(__file__).read_text())
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    kernel = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert _eventually(saved.exists, 600)
        assert len(_processes(tmp_path)) == 3
    finally:
        kernel.send_signal(signal.SIGKILL)
        kernel.wait()
    assert _eventually(lambda: not _processes(tmp_path), 30), _processes(tmp_path)
    assert not (tmp_path / "run/1_two/done.json").exists(), "it was killed in the middle"
    resumed = train(TWO, tmp_path / "run", progress=False)
    assert _numbers(resumed) == _numbers(two)


def test_an_interrupted_kernel_ends_the_launcher_and_its_workers(tmp_path):
    script, metrics = tmp_path / "launch.json.py", tmp_path / "metrics.jsonl"
    script.write_text("""
import subprocess, sys
from pathlib import Path
worker = "import time; print('ready', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", worker, __file__], stdout=subprocess.PIPE)
child.stdout.readline()
Path(sys.argv[1]).write_text('{"stage": 0, "step": 0}\\n')
child.wait()
""")

    def stop(line):
        assert len(_processes(tmp_path)) == 2
        raise InterruptedError

    with pytest.raises(InterruptedError):
        _run([sys.executable, str(script), str(metrics)], tmp_path / "launch.log", metrics, stop)
    assert _eventually(lambda: not _processes(tmp_path), 30), _processes(tmp_path)


def _numbers(result):
    return [{k: v for k, v in line.items() if not k.startswith("seconds/")} for line in result.lines()]


def _processes(tmp_path: Path) -> list[str]:
    """Command lines of all processes that train in that folder: the launcher and its workers."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{tmp_path}/" in line and "launch.json" in line:
            found.append(line)
    return found


def _eventually(holds, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.1)
    return False


def test_the_command_and_the_configurations(tmp_path):
    folder = config_file(CPU).parent
    found = {path.stem: processes(path) for path in folder.glob("*.yaml")}
    assert found == {"cpu-2": 2, "ddp-8gpu": 8, "fsdp2-8gpu": 8, "fsdp2-2x8gpu": 16, "zero3-8gpu": 8}
    assert processes(None) == 1
    command = launch_command(folder / "fsdp2-8gpu.yaml", Path("/run/launch.json"))
    assert command[1:4] == ["-m", "accelerate.commands.launch", "--config_file"]
    assert command[5:] == ["--main_process_port", "0", "-m", "envtune.training.train", "/run/launch.json"]
    assert "--main_process_port" not in launch_command(folder / "fsdp2-2x8gpu.yaml", Path("spec"))
    with pytest.raises(FileNotFoundError, match=r"no accelerate configuration 'x\.yaml'\. .* params/accelerate/"):
        config_file("x.yaml")
    for text in ("num_processes: 2", "- 1", "a: [", ""):
        (tmp_path / "odd.yaml").write_text(text)
        with pytest.raises(
            ValueError, match=r"odd\.yaml is not a configuration of accelerate, which has num_processes"
        ):
            processes(tmp_path / "odd.yaml")
