"""What a parameter file would train: the stages and how, read from a file of the series or of an experiment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from envtune.workbook import experiment
from envtune.workbook.errors import ParamsError
from envtune.workbook.learning import machine_of
from envtune.workbook.params import Training, load_params
from envtune.workbook.paths import find_root
from envtune.workbook.series import planned

if TYPE_CHECKING:
    from envtune.training.curriculum import Stage
    from envtune.training.machine import Machine
    from envtune.training.train import Schedule


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that `training.launch.train` is told, and the threads of torch."""

    run_dir: Path
    stages: tuple[Stage, ...]
    policy: str
    seed: int
    machine: Machine
    schedule: Schedule
    launch: str | None
    threads: int | None


def training_plan(path: Path | str) -> TrainingPlan:
    """The whole recipe that a parameter file names; of an experiment, as its arms change it.

    Raises:
        FileNotFoundError, ParamsError, ValueError: the file is not there or does not say what it must.
    """
    from envtune.training.curriculum import override
    from envtune.training.recipes import recipe
    from envtune.training.train import Schedule

    if "arms" in load_params(path):
        arms = experiment.load(path)
        return TrainingPlan(
            find_root() / arms.results / arms.run,
            override(recipe(arms.recipe).stages, arms.override),
            arms.policy,
            arms.seeds[0],
            experiment.machine(arms),
            Schedule(arms.validate_every, arms.validate_tasks, keep_best=False),
            None,
            arms.threads,
        )
    run_dir, chapters = planned(path)
    found = [params for params in chapters if isinstance(params, Training)]
    if not found:
        raise ParamsError(f"{path}: there is no notebook here that trains")
    params = found[0]
    return TrainingPlan(
        run_dir,
        override(recipe(params.recipe).stages, params.override),
        params.policy,
        params.seed,
        machine_of(params),
        Schedule(params.validate_every, params.validate_tasks),
        params.launch,
        params.threads,
    )
