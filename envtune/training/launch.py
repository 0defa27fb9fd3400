"""Train in processes of their own: several that train together, and new ones for every stage.

In: a plan whose `launch` is a configuration of accelerate (`params/accelerate/*.yaml`), or whose sampler is vLLM. Out:
the same result as in one process. The plan goes to `<out>/launch.json`, and for every stage that is not finished

    accelerate launch --config_file FILE -m envtune.training.train <out>/launch.json

trains it in its own process group, which ends with this process, however it ends (Linux). Without a configuration it is
`python -m envtune.training.train`. Numbers come back through `metrics.jsonl`. The command and what the processes print
go to `<out>/launch.log`. With more than one machine, start the others manually: the same command once for every stage,
their `--machine_rank`, and a folder `<out>` that all machines see.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import TypeAdapter
from tqdm.auto import tqdm

from envtune.policy.checkpoint import folder_here
from envtune.processes import end_with_parent
from envtune.training import metrics
from envtune.training.folders import handed_on
from envtune.training.machine import accumulation, fit, launched, sharding
from envtune.training.plan import Plan, TrainResult
from envtune.types import JSON, Task

POLL = 0.5
"""Seconds between two reads of the numbers."""
GRACE = 20.0
"""Seconds that processes have to end after a signal."""
LOG_LINES = 20
LAUNCHED = "ENVTUNE_LAUNCHED"
"""Environment variable of launched processes. If the parent of one is process 1, its launcher has ended."""
FAILED = "envtune: error:"
"""Begins the line in which a launched process says why it stopped."""
_RANK = re.compile(r"^\[rank\d+\]: ")
"""Torch's prefix of error lines from one of several processes."""
_TASKS: TypeAdapter[dict[str, tuple[Task, ...]]] = TypeAdapter(dict[str, tuple[Task, ...]])


class LaunchError(ValueError):
    """The launched processes failed. The message is the reason they gave, or the end of their log."""


def launch(
    plan: Plan,
    out: Path,
    tasks: Mapping[str, Sequence[Task]],
    on_step: Callable[[JSON], None] | None = None,
    progress: bool = True,
) -> TrainResult:
    """Train a plan, each stage in the processes that `plan.launch` names, or in one. `train.train` calls this.

    Raises:
        FileNotFoundError: there is no such configuration.
        LaunchError: the launched processes failed.
    """
    config = config_file(plan.launch) if plan.launch else None
    spec, result = out / "launch.json", TrainResult(out / "policy", out / "metrics.jsonl")
    out.mkdir(parents=True, exist_ok=True)
    told = {"plan": plan.to_json(), "processes": processes(config), "tasks": tasks_to_json(tasks)}
    spec.write_text(json.dumps(told, indent=2) + "\n")
    steps, done = sum(stage.steps for stage in plan.stages), sum(line["step"] > 0 for line in result.lines())
    desc = f"training, {config.stem}" if config else "training"
    with tqdm(total=steps, initial=done, desc=desc, disable=not progress) as bar:

        def tell(line: JSON) -> None:
            bar.update(bool(line["step"]))
            bar.set_postfix_str(f"{line['name']} step {line['step']}")
            if on_step:
                on_step(line)

        for _ in plan.stages[len(handed_on(out, plan.stages)) :] or plan.stages[-1:]:  # a finished run is checked, too
            _run(launch_command(config, spec), out / "launch.log", result.metrics, tell, plan.threads)
    return result


def tasks_to_json(tasks: Mapping[str, Sequence[Task]]) -> JSON:
    """Tasks as plain values, see `tasks_from_json`."""
    return dict(_TASKS.dump_python({name: tuple(own) for name, own in tasks.items()}, mode="json"))


def tasks_from_json(told: JSON) -> dict[str, tuple[Task, ...]]:
    """The tasks that `tasks_to_json` made plain.

    Raises:
        ValueError: they are not tasks.
    """
    return _TASKS.validate_json(json.dumps(told))


def launch_command(config: Path | None, spec: Path) -> list[str]:
    """The command that starts the processes, with this interpreter. On a single machine a free port is chosen.

    Without a configuration it starts one process.
    """
    worker = ["-m", "envtune.training.train", str(spec)]
    if config is None:
        return [sys.executable, *worker]
    alone = int(yaml.safe_load(config.read_text()).get("num_machines", 1)) == 1
    port = ["--main_process_port", "0"] if alone else []
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), *port, *worker]


def config_file(launch: str | Path) -> Path:
    """The configuration's file, relative to this folder or one above it.

    Raises:
        FileNotFoundError: there is none.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / launch).is_file():
            return (folder / launch).resolve()
    raise FileNotFoundError(f"no accelerate configuration {str(launch)!r}. The project's own are in params/accelerate/")


def processes(launch: str | Path | None) -> int:
    """Number of processes of a configuration, over all machines. None: of those that train here."""
    return launched() if launch is None else int(_settings(launch)["num_processes"])


def sharded(launch: str | Path | None) -> str:
    """How a configuration shards the weights: `none`, `fsdp` or `zero`. None: how this process does."""
    kinds = {"FSDP": "fsdp", "DEEPSPEED": "zero"}
    return sharding() if launch is None else kinds.get(_settings(launch)["distributed_type"], "none")


def _settings(launch: str | Path) -> JSON:
    """A configuration's values.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a configuration of accelerate.
    """
    file, needed = config_file(launch), ("num_processes", "distributed_type")
    try:
        found = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict) or not all(name in found for name in needed):
        raise ValueError(f"{launch} is not a configuration of accelerate, which has {' and '.join(needed)}")
    return found


def fits(plan: Plan) -> None:
    """Refuse a plan whose stages do not go with its machine or its processes, or whose policy cannot be.

    Nothing is written or downloaded.

    Raises:
        FileNotFoundError, ValueError: one line with the reason and the way out.
    """
    folder_here(plan.policy)
    count, how = processes(plan.launch), sharded(plan.launch)
    for stage in plan.stages:
        fit(stage, plan.machine, how)
        accumulation(stage, plan.machine, count)


def _run(
    command: Sequence[str], log: Path, numbers: Path, tell: Callable[[JSON], None], threads: int | None = None
) -> None:
    """Run to the end and report every new line of numbers."""
    import torch  # slow, and not needed to read a configuration

    threads = threads or torch.get_num_threads()
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ, "TOKENIZERS_PARALLELISM": "false", LAUNCHED: "1"}
    seen = max(map(_place, metrics.read(numbers)), default=(-1, -1))
    with log.open("a") as file:
        print(shlex.join(command), file=file, flush=True)
        begin = file.tell()
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
        raise LaunchError(_reason(log, begin, process.returncode))


def _place(line: JSON) -> tuple[int, int]:
    return int(line["stage"]), int(line["step"])


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the launcher and with it its workers."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _reason(log: Path, begin: int, code: int) -> str:
    """The reason of a refusal, or the first error, or the end of the log, in what follows byte `begin`."""
    text = log.read_bytes()[begin:].decode(errors="replace")
    lines = [_RANK.sub("", line) for line in text.splitlines() if line.strip()]
    told = [line.split(FAILED, 1)[1] for line in lines if FAILED in line]
    if told:
        return told[0].strip()
    broke = lines[next((i for i, line in enumerate(lines) if line.startswith("Traceback")), len(lines)) + 1 :]
    errors = [line for line in broke if not line.startswith(" ")]  # the frames between are indented
    ended = f"the launched processes ended with code {code}, see their log {log}"
    return f"{errors[0]} ({ended})" if errors else "\n".join([ended, *lines[-LOG_LINES:]])
