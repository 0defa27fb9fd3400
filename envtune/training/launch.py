"""Train in several processes.

In: a plan whose `launch` is a configuration of accelerate (`params/accelerate/*.yaml`). Out: the same result as in one
process. The plan is written to `<out>/launch.json` and

    accelerate launch --config_file FILE -m envtune.training.train <out>/launch.json

trains it, in a process group of its own, which ends when this process ends, however that happens (Linux). Numbers
come back through `metrics.jsonl`; what the processes print goes to `<out>/launch.log`. On more than one machine the
others are started manually with the same command, its `--machine_rank` and a folder `<out>` that all of them see.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import yaml
from tqdm.auto import tqdm

from envtune.processes import end_with_parent
from envtune.training import metrics
from envtune.training.plan import Plan, TrainResult
from envtune.types import JSON

POLL = 0.5
"""Seconds between two looks at the numbers."""
GRACE = 20.0
"""Seconds that processes have to end when they are told to."""
LOG_LINES = 20
LAUNCHED = "ENVTUNE_LAUNCHED"
"""Set for processes that are launched here, whose launcher is never the system's first process."""
FAILED = "envtune: error:"
"""Begins the line by which a launched process says why it cannot go on."""
_RANK = re.compile(r"^\[rank\d+\]: ")
"""Before every line that torch prints of an error in one of several processes."""


class LaunchError(ValueError):
    """The launched processes failed; the message is the reason they gave, or the end of their log."""


def launch(plan: Plan, out: Path, on_step: Callable[[JSON], None] | None = None, progress: bool = True) -> TrainResult:
    """Train a plan in the processes that `plan.launch` names; `train.train` comes here.

    Raises:
        FileNotFoundError: there is no such configuration.
        LaunchError: the launched processes failed.
    """
    assert plan.launch is not None
    config, spec = config_file(plan.launch), out / "launch.json"
    out.mkdir(parents=True, exist_ok=True)
    spec.write_text(json.dumps({"plan": plan.to_json(), "processes": processes(config)}, indent=2) + "\n")
    result = TrainResult(out / "policy", out / "metrics.jsonl")
    steps, done = sum(stage.steps for stage in plan.stages), sum(line["step"] > 0 for line in result.lines())
    with tqdm(total=steps, initial=done, desc=f"training, {config.stem}", disable=not progress) as bar:

        def tell(line: JSON) -> None:
            bar.update(bool(line["step"]))
            bar.set_postfix_str(f"{line['name']} step {line['step']}")
            if on_step:
                on_step(line)

        _run(launch_command(config, spec), out / "launch.log", result.metrics, tell, plan.threads)
    return result


def launch_command(config: Path, spec: Path) -> list[str]:
    """What starts the processes, with this interpreter. A free port is chosen where one machine does it all."""
    alone = int(yaml.safe_load(config.read_text()).get("num_machines", 1)) == 1
    port = ["--main_process_port", "0"] if alone else []
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), *port]
    return [*launcher, "-m", "envtune.training.train", str(spec)]


def config_file(launch: str | Path) -> Path:
    """The configuration's file, relative to this folder or one above it.

    Raises:
        FileNotFoundError: there is none.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / launch).is_file():
            return (folder / launch).resolve()
    raise FileNotFoundError(f"no accelerate configuration {str(launch)!r}; the project's own are in params/accelerate/")


def processes(launch: str | Path | None) -> int:
    """How many processes a configuration starts, on all machines together."""
    return 1 if launch is None else int(yaml.safe_load(config_file(launch).read_text())["num_processes"])


def _run(
    command: Sequence[str], log: Path, numbers: Path, tell: Callable[[JSON], None], threads: int | None = None
) -> None:
    """Run to the end, telling every new line of numbers."""
    threads = threads or torch.get_num_threads()
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ, "TOKENIZERS_PARALLELISM": "false", LAUNCHED: "1"}
    seen = max(map(_place, metrics.read(numbers)), default=(-1, -1))
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=end_with_parent if sys.platform == "linux" else None,
        )
        try:
            running = True
            while running:
                running = process.poll() is None
                for line in metrics.read(numbers):
                    if _place(line) > seen:
                        seen = _place(line)
                        tell(line)
                if running:
                    time.sleep(POLL)
        finally:
            _end(process)
    if process.returncode:
        raise LaunchError(_reason(log, process.returncode))


def _place(line: JSON) -> tuple[int, int]:
    return int(line["stage"]), int(line["step"])


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the launcher, which ends its workers; they cannot outlive it."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _reason(log: Path, code: int) -> str:
    """Why a process refused, or the error of the first that broke, or the end of the log."""
    lines = [_RANK.sub("", line) for line in log.read_text(errors="replace").splitlines() if line.strip()]
    told = [line.split(FAILED, 1)[1] for line in lines if FAILED in line]
    if told:
        return told[0].strip()
    broke = lines[next((i for i, line in enumerate(lines) if line.startswith("Traceback")), len(lines)) + 1 :]
    errors = [line for line in broke if not line.startswith(" ")]  # the frames between are indented
    ended = f"the launched processes ended with code {code}; their log is {log}"
    return f"{errors[0]} ({ended})" if errors else "\n".join([ended, *lines[-LOG_LINES:]])
