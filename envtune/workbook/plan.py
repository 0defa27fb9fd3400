"""What a parameter file would train, read from a file of the series or of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from envtune.workbook import experiment
from envtune.workbook.errors import ParamsError
from envtune.workbook.params import Training, load_params
from envtune.workbook.series import planned

if TYPE_CHECKING:
    from envtune.training.plan import Plan


def training_plan(path: Path | str) -> tuple[Path, Plan]:
    """The folder of the run, and the whole recipe that the file names; of an experiment, as its arms change it.

    Raises:
        FileNotFoundError, ParamsError: the file is not there or does not say what it must.
    """
    if "arms" in load_params(path):
        arms = experiment.load(path)
        return arms.folder, arms.plan()
    run_dir, chapters = planned(path)
    found = [params for params in chapters if isinstance(params, Training)]
    if not found:
        raise ParamsError(f"{path}: there is no notebook here that trains")
    return run_dir, found[0].plan()
