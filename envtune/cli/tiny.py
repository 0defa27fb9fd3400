"""Commands about the shipped policy: `tiny build`, `tiny check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from envtune.cli.tables import print_table

commands = typer.Typer(help="The shipped policy of a million parameters.", no_args_is_help=True)


@commands.command("build")
def tiny_build(
    out: Annotated[Path | None, typer.Option(help="Folder to write (default: the package's own weights).")] = None,
    minutes: Annotated[float, typer.Option(min=0.01, help="Nominal minutes, which set the number of tokens.")] = 12.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and data.")] = 0,
) -> None:
    """Train the tiny policy's cold start from nothing."""
    from envtune.cold_start.build import build
    from envtune.policy.tiny import WEIGHTS

    card = build(out or WEIGHTS, minutes, seed, echo=typer.echo)
    typer.echo(f"{out or WEIGHTS}: {card['parameters']:,} parameters, {card['seconds']} s")
    _print_tiny(card["measured"])


@commands.command("check")
def tiny_check(
    policy: Annotated[str, typer.Argument(help="`tiny` or the folder of a checkpoint.")] = "tiny",
    split: Annotated[str, typer.Option(help="val, test, ...")] = "val",
    tasks: Annotated[int, typer.Option(min=1, help="Tasks per measurement.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the tasks.")] = 0,
) -> None:
    """Measure a tiny policy: single requests, and chains with and without hints."""
    from envtune.cold_start.measure import measure
    from envtune.policy.checkpoint import load_checkpoint

    model, tokenizer, _ = load_checkpoint(policy)
    _print_tiny([measure(model, tokenizer, tasks, split, seed)])


def _print_tiny(measured: list[dict[str, Any]]) -> None:
    """A line per split."""
    import pandas as pd

    rows = [
        {"split": m["split"], "seed": m["seed"], "tasks": m["tasks"], "single calls exact": f"{m['single_exact']:.1%}"}
        | {f"chain turns, hints {name}": f"{how['turn_accuracy']:.1%}" for name, how in m["chains"].items()}
        for m in measured
    ]
    if rows:
        print_table(pd.DataFrame(rows), "tiny policy, greedy")
