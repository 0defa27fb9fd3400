"""Experiments: the arms of `training.arms`, several seeds each, trained alike and evaluated without hints.

The policy that all start from, `base`, is evaluated in the same way.

In: a parameter file such as `params/laptop-hints.yaml` or `params/laptop-ppo.yaml`. Out, in `results/<run>/`:

    summary.csv     one row per arm, seed and category (and `all`): the trained policy's accuracy on the evaluation
                    tasks and the execution feedback on its calls
    requests.csv    one row per arm, seed and kind of request: its turns, and the share that is correct
    curves.csv      one row per arm, seed and validated step: the columns of `CURVES`
    manifest.json   parameters, the recipe's stages, the policy's fingerprint, code, versions, machine
    runs/           per arm and seed, the training run and its evaluation, not needed afterwards

Every stage hands on its last weights, so that no arm can choose by validation where another cannot. Each arm and seed
is its own process, `jobs` at a time, and ends with the call. The tables are written when all have finished. After a
kill, the same call goes on with the same code: training at its last checkpoint, evaluation at its last task.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import pandas as pd
from filelock import Timeout
from pydantic import AfterValidator, Field, ValidationError, field_validator

from envtune.evaluation import load_result
from envtune.evaluation.frames import feedback_rates
from envtune.evaluation.gains import CHAIN, turn_frame
from envtune.locks import lock
from envtune.workbook import provenance
from envtune.workbook.errors import ParamsError, SeriesError
from envtune.workbook.params import Count, Plain, Results, RunName, Trains
from envtune.workbook.params_file import explain, load_params
from envtune.workbook.paths import MANIFEST, find_root

if TYPE_CHECKING:
    from envtune.evaluation.result import Result
    from envtune.training.plan import Plan
    from envtune.types import Task

T = TypeVar("T")
Arm = Literal["faded", "none", "abrupt", "ppo", "grpo"]
BASE = "base"
BEGUN = "runs/begun.json"
"""File with the code of the runs and the seconds of all calls."""
CURVES = {
    "progress": "val/progress",
    "task_accuracy": "val/task_accuracy",
    "execution": "val/rewards/execution",
    "error_rate": "val/error_rate",
    "invalid_json_rate": "val/invalid_json_rate",
    "unknown_tool_rate": "val/unknown_tool_rate",
    "hint_rate": "hint_rate",
    "kl": "kl",
}
"""Column of `curves.csv` -> key of a line of `metrics.jsonl`."""
Name = tuple[str, int | None]
"""An arm and a seed. The base has no seed."""


def _different(values: list[T]) -> list[T]:
    if len(set(values)) < len(values):
        raise ValueError(f"{values}: give each at most once")  # two runs would share a folder
    return values


class Arms(Trains):
    """The parameter file. Every key but `stages` and `machine` is required."""

    run: RunName
    results: Results
    stages: list[Plain] = Field(default_factory=list)
    machine: Plain = Field(default_factory=dict)
    arms: Annotated[list[Arm], Field(min_length=1), AfterValidator(_different)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), AfterValidator(_different)]
    split: Literal["val", "test", "ood"]
    tasks: Count
    batch_size: Count
    threads: Count
    jobs: Count

    @field_validator("schedule")
    @classmethod
    def _fair(cls, value: Plain) -> Plain:
        if value.get("validate_every") == 0 or value.get("keep_best"):
            raise ValueError("arms are validated (validate_every above 0) and hand on their last weights")
        return value

    def plans(self) -> list[Plan]:
        """The plans of all arms."""
        from envtune.data import SOURCES
        from envtune.training.arms import arm

        plan = self.plan()
        source = plan.stage().judged_on
        if self.split not in (splits := SOURCES[source].splits):
            raise ValueError(f"{source}, on which arms are judged, has no split {self.split!r}: {', '.join(splits)}")
        return [replace(plan, stages=arm(name, plan.stages)) for name in self.arms]

    @property
    def folder(self) -> Path:
        """The folder of the tables."""
        return find_root() / self.results / self.run

    def plan(self, seed: int | None = None) -> Plan:
        """The plan that the arms change, with a seed. None: the first."""
        found = self.plan_with(self.seeds[0] if seed is None else seed, threads=self.threads)
        return replace(found, schedule=replace(found.schedule, keep_best=False))


def run_arms(path: Path | str, echo: Callable[[str], None] = print) -> Path:
    """Run what is left of every arm and seed. Returns the folder of the tables.

    Args:
        path: the parameter file.
        echo: takes a line at the beginning of a run, at each validation and at the end.

    Raises:
        ParamsError: the file does not fit `Arms`.
        SeriesError: a run failed (the others have finished), another call is at work, or the runs began with other
            code.
    """
    params = load(path)
    folder = params.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with lock(folder.with_name(f".{folder.name}.lock")), ThreadPoolExecutor(params.jobs) as pool:
            began = time.monotonic()
            _check_code(folder)
            codes = {name: pool.submit(_start, path, folder, *name, params.threads, echo) for name in _names(params)}
            try:
                failed = [_text(*name) for name, code in codes.items() if code.result()]
            except BaseException:  # interrupted: start no further run
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            finally:
                _add_seconds(folder, time.monotonic() - began)
    except Timeout:
        raise SeriesError(f"another call is at work on run '{params.run}'. Wait for it to end") from None
    if failed:
        raise SeriesError(f"these runs failed: {', '.join(failed)}. Their logs are in {folder / 'runs'}")
    write_tables(folder, params)
    return folder


def _check_code(folder: Path) -> None:
    """Record the code of the runs, or check that it is still the same.

    Raises:
        SeriesError: it is not, so one table would hold runs of both.
    """
    record = folder / BEGUN
    if not record.exists():
        record.parent.mkdir(parents=True, exist_ok=True)
        provenance.write_json(record, {"code": provenance.code(), "seconds": 0.0})
    code = json.loads(record.read_text())["code"]
    if code["source_hash"] != provenance.source_hash():
        raise SeriesError(
            f"the runs in {record.parent} began with other code (revision {code['revision']}). Use that code, "
            "or move the folder away to start again"
        )


def _add_seconds(folder: Path, seconds: float) -> None:
    """Add the seconds of this call to those of earlier calls."""
    record: dict[str, Any] = json.loads((folder / BEGUN).read_text())
    provenance.write_json(folder / BEGUN, record | {"seconds": round(record["seconds"] + seconds, 1)})


def load(path: Path | str) -> Arms:
    """The parameters in a file.

    Raises:
        FileNotFoundError, ParamsError: no such file, or it does not fit `Arms`. One line per problem.
    """
    values = load_params(path)
    if "arms" not in values:
        raise ParamsError(f"{path} lists no `arms`. If it is the file of a series, `envtune run {path}` runs it")
    try:
        return Arms.model_validate(values)
    except ValidationError as error:
        told = (explain(line, list(Arms.model_fields), "this file") for line in error.errors())
        raise ParamsError("\n".join(f"{path}: {line}" for line in told)) from None


def _names(params: Arms) -> list[Name]:
    return [(BASE, None), *((arm, seed) for seed in params.seeds for arm in params.arms)]


def _text(arm: str, seed: int | None) -> str:
    return arm if seed is None else f"{arm}-{seed}"


def _start(
    path: Path | str, folder: Path, arm: str, seed: int | None, threads: int, echo: Callable[[str], None]
) -> int:
    """Run one arm and seed in a process. Its lines go to `echo`, its log to a file. Returns the exit code."""
    log = folder / "runs" / f"{_text(arm, seed)}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "envtune.workbook.experiment", str(path), arm]
    command += [] if seed is None else [str(seed)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    with log.open("a") as errors:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            echo(line.rstrip())
        return process.wait()


def run_one(path: Path | str, arm: str, seed: int | None = None) -> None:
    """Train and evaluate one arm with one seed in this process, or evaluate the base."""
    from envtune.evaluation import evaluate
    from envtune.policy import load_policy

    params = load(path)
    name = _text(arm, seed)
    _check_code(params.folder)
    folder = params.folder / "runs" / name
    policy = params.policy if seed is None else str(_train(params.plan(seed), arm, folder))
    judged = evaluate(
        load_policy(policy, name=name),
        _tasks(params),
        folder / f"{params.split}.jsonl",
        rules=params.curriculum()[-1].judged,
        batch_size=params.batch_size,
        progress=False,
    )
    print(f"{name}: {params.split} split turn accuracy {judged.turn_accuracy:.1%}", flush=True)


def _tasks(params: Arms) -> list[Task]:
    """The evaluation tasks."""
    return params.curriculum()[-1].load(params.split, params.tasks)


def _train(plan: Plan, arm: str, folder: Path) -> Path:
    from envtune.training import arms
    from envtune.training.train import train

    plan, name = replace(plan, stages=arms.arm(arm, plan.stages)), _text(arm, plan.seed)
    print(f"{name}: {sum(stage.steps for stage in plan.stages)} steps in {len(plan.stages)} stages", flush=True)

    def tell(line: dict[str, Any]) -> None:
        if "val/progress" in line:
            found = f"progress {line['val/progress']:.0%}, task accuracy {line['val/task_accuracy']:.0%}"
            print(f"{name}: {line['name']} step {line['step']}, without hints: {found}", flush=True)

    return train(plan, folder, on_step=tell, progress=False).policy


def write_tables(folder: Path, params: Arms) -> None:
    """Write the tables and the manifest of all runs."""
    from envtune.policy.checkpoint import fingerprint, folder_of

    tasks = _tasks(params)
    tables: dict[str, list[pd.DataFrame]] = {"summary": [], "requests": [], "curves": []}
    for arm, seed in _names(params):
        run = folder / "runs" / _text(arm, seed)
        result = load_result(run / f"{params.split}.jsonl")
        rows = {"summary": _scores(result), "requests": _by_request(turn_frame(result, tasks))}
        if seed is not None:
            rows["curves"] = _validations(run)
        for table, own in rows.items():
            tables[table].append(own.assign(arm=arm, seed=seed))
    for table, parts in tables.items():
        whole = pd.concat(parts)
        whole = whole[["arm", "seed", *(name for name in whole if name not in ("arm", "seed"))]]
        whole["seed"] = whole.seed.astype("Int64")
        provenance.write_atomic(folder / f"{table}.csv", whole.to_csv(index=False, lineterminator="\n"))
    told = {
        "parameters": params,
        "stages": [stage.to_json() for stage in params.curriculum()],
        "policy": fingerprint(folder_of(params.policy)),
        "runs": len(_names(params)),
        **provenance.where_from(),
        **json.loads((folder / BEGUN).read_text()),  # with the code that the runs began with
    }
    provenance.write_json(folder / MANIFEST, told)


def _scores(result: Result) -> pd.DataFrame:
    """Rows of `summary.csv` of one run."""
    categories = [*dict.fromkeys(str(row.category) for row in result.rows), "all"]
    rows = []
    for category in categories:
        own = [row for row in result.rows if category in ("all", row.category)]
        turns = sum(row.n_turns for row in own)
        right = {"turn_accuracy": sum(row.correct_turns for row in own) / turns, "episodes": len(own)}
        right["task_accuracy"] = sum(row.success for row in own) / len(own)
        rows.append({"category": category, "turns": turns} | right | feedback_rates(row.episode for row in own))
    return pd.DataFrame(rows)


def _by_request(turns: pd.DataFrame) -> pd.DataFrame:
    """Rows of `requests.csv` of one run: every kind of chain, the other types, and all chains together."""
    chains = turns[turns.type == CHAIN].assign(request=CHAIN)
    right = pd.concat([turns, chains]).groupby("request", sort=True).right
    return pd.DataFrame({"turns": right.size(), "turn_accuracy": right.mean()}).reset_index()


def _validations(run: Path) -> pd.DataFrame:
    """Rows of `curves.csv` of one run: its validated steps, counted from the run's beginning."""
    from envtune.training import metrics
    from envtune.workbook.learning import along

    placed, _ = along(metrics.read(run / "metrics.jsonl"))
    return pd.DataFrame(
        {"step": step} | {column: line.get(key) for column, key in CURVES.items()}
        for step, line in placed
        if "val/progress" in line
    )


if __name__ == "__main__":
    from envtune.processes import end_with_parent

    end_with_parent()
    run_one(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
