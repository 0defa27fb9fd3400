"""The policy that a run trained, and the run that a parameter file names."""

from __future__ import annotations

from pathlib import Path

from envtune.workbook.manifest import finished
from envtune.workbook.series import planned

TRAINING = ("05_stage2_training", "04_stage1_training")
"""Chapters that leave a policy, the last first."""


def trained_policy(run_dir: Path) -> Path | None:
    """The folder of the last policy that a run trained: of a chapter that is complete, or of `envtune train`."""
    chapters = [name for name in finished(run_dir, TRAINING) if (run_dir / name / "policy").is_dir()]
    alone = run_dir / "train" / "policy"
    return run_dir / chapters[0] / "policy" if chapters else alone if alone.is_dir() else None


def named_by(params_path: Path) -> tuple[str, Path]:
    """The policy that a parameter file names, for `load_policy`, and the run's folder.

    The policy is the last one that the run trained. If there is none, the one that enters training, or the shipped one.
    """
    run_dir, params = planned(params_path)
    found = trained_policy(run_dir)
    if found:
        return str(found), run_dir
    return next((str(p.policy) for p in params if hasattr(p, "policy")), "tiny"), run_dir
