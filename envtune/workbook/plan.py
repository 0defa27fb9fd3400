"""The training plan of a parameter file, of the series or of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from envtune.workbook import experiment
from envtune.workbook.errors import ParamsError
from envtune.workbook.params import Training
from envtune.workbook.params_file import load_params
from envtune.workbook.series import planned

if TYPE_CHECKING:
    from envtune.training.plan import Plan


def training_plan(path: Path | str) -> tuple[Path, Plan]:
    """The folder of the run, and its plan with the whole recipe. Of an experiment: the plan that its arms change.

    Raises:
        FileNotFoundError, ParamsError: the file does not exist or is not valid.
    """
    if "arms" in load_params(path):
        arms = experiment.load(path)
        return arms.folder, arms.plan()
    run_dir, chapters = planned(path)
    found = [params for params in chapters if isinstance(params, Training)]
    if not found:
        raise ParamsError(
            f"{path}: none of its notebooks trains. Give the file of a run that trains, such as params/tiny.yaml"
        )
    return run_dir, found[0].plan()
