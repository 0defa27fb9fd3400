"""Commands that run the workbook: `run`, `train`, `arms`, `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from envtune.extras import require

commands = typer.Typer()


@commands.command()
def run(
    params: Annotated[Path, typer.Argument(help="Parameter file, such as params/tiny.yaml.")],
    only: Annotated[str | None, typer.Option(metavar="NN", help="Run one notebook, such as 03.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run everything from scratch, even if up to date.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Print the plan, try one step of each stage, and stop.")
    ] = False,
    device: Annotated[str, typer.Option(help="With --check, plan for: H200, H100, A100, RTX 4090.")] = "H100",
) -> None:
    """Run the notebook series and render its reports. What is up to date is skipped."""
    require("train" if check else "workbook")
    if check:
        return _check(params, device)
    from envtune.workbook.series import run_series

    run_series(params, only=only, force=force, echo=typer.echo)
    return None


def _check(params: Path, device: str) -> None:
    from envtune.training import cost
    from envtune.training.check import check
    from envtune.workbook.plan import training_plan

    if device not in cost.DEVICES:
        raise typer.BadParameter(f"unknown device {device!r}. Known: {', '.join(cost.DEVICES)}")
    _, plan = training_plan(params)
    check(plan, device=cost.DEVICES[device], echo=typer.echo)


@commands.command()
def train(
    params: Annotated[Path, typer.Argument(help="Parameter file, such as params/single-stage.yaml.")],
) -> None:
    """Train the whole recipe without notebooks, into results/<run>/train/. A killed run goes on."""
    require("train")
    from envtune.training.train import train as run_plan
    from envtune.workbook import provenance
    from envtune.workbook.params_file import load_params
    from envtune.workbook.paths import MANIFEST
    from envtune.workbook.plan import training_plan
    from envtune.workbook.series import alone

    run_dir, plan = training_plan(params)
    folder = run_dir / "train"
    made_with = {"parameters": load_params(params), **provenance.where_from()}
    with alone(run_dir):
        trained = run_plan(plan, folder)
    if not (folder / MANIFEST).exists():  # a finished run is not trained again, so it keeps its manifest
        provenance.write_json(folder / MANIFEST, made_with)
    typer.echo(f"policy {trained.policy}")


@commands.command()
def arms(
    params: Annotated[Path, typer.Argument(help="Parameter file, such as params/laptop-hints.yaml.")],
) -> None:
    """Run an experiment: several arms (hints, or PPO against GRPO), several seeds each. A killed run goes on."""
    require("workbook")
    from envtune.workbook.experiment import run_arms

    typer.echo(f"tables in {run_arms(params, typer.echo)}")


@commands.command()
def doctor() -> None:
    """Check that this machine can run the workbook."""
    from envtune.workbook.doctor import Verdict, examine

    failed = False
    for finding in examine():
        typer.echo(f"{finding.verdict:<5} {finding.subject:<10} {finding.text}")
        failed |= finding.verdict is Verdict.FAIL
    if failed:
        raise typer.Exit(1)
