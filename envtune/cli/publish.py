"""Commands about a finished run: `publish`, `readme`, `card`, `reproduced`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from envtune.cli.tables import print_table
from envtune.extras import require
from envtune.workbook.errors import SeriesError

commands = typer.Typer()


@commands.command()
def publish(
    run: Annotated[str, typer.Argument(help="Name of a finished run, such as tiny, or its folder.")],
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Publish even if it was made with uncommitted changes.")
    ] = False,
) -> None:
    """Copy a run's reports, figures and tables to results/published/, which git tracks. No weights, no episodes."""
    from envtune.workbook.paths import find_root, run_folder
    from envtune.workbook.publishing import publish as copy

    folder = copy(run_folder(run), find_root(), allow_dirty=allow_dirty)
    typer.echo(f"published in {folder}. `envtune readme` puts its numbers into the README")


@commands.command()
def readme(
    run: Annotated[str, typer.Option(help="The published run whose answers the README shows.")] = "tiny",
    check: Annotated[bool, typer.Option("--check", help="Write nothing. Exit with 1 if the README is stale.")] = False,
) -> None:
    """Put the answers of a published run into the README, and its tables into docs/."""
    require("workbook")
    from envtune.workbook.overview import update_readme, update_tables
    from envtune.workbook.paths import find_root, published_folder

    root = find_root()
    folder = published_folder(root, run)
    stale = ["README.md"] if update_readme(root / "README.md", folder, check=check) else []
    stale += [
        f"docs/{file.name}" for file in sorted(root.glob("docs/*.md")) if update_tables(file, folder, check=check)
    ]
    if stale and check:
        raise SeriesError(f"{', '.join(stale)}: stale. `envtune readme` updates it")
    typer.echo(f"{', '.join(stale)} updated" if stale else "README.md and docs/ are up to date")


@commands.command()
def card(
    run: Annotated[str, typer.Argument(help="Name of a run, such as tiny, or its folder.")],
    out: Annotated[Path | None, typer.Option(help="File to write (default: README.md in the run's folder).")] = None,
    license: Annotated[str, typer.Option(help="Licence of the weights, that of the base model.")] = "apache-2.0",
) -> None:
    """Write the model card of the policy that a run trained. Nothing is uploaded."""
    require("workbook")
    from envtune.workbook.card import write_card
    from envtune.workbook.paths import run_folder

    run_dir = run_folder(run)
    typer.echo(f"model card {write_card(run_dir, out or run_dir / 'README.md', license)}")


@commands.command()
def reproduced(
    run: Annotated[str, typer.Argument(help="Name of a run, such as tiny, or its folder.")],
    published: Annotated[
        str | None, typer.Option("--with", help="Published run to compare with (default: same name).")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also list the equal numbers.")] = False,
) -> None:
    """Compare a run with the published one, number by number. Exit with 1 if a number is outside its interval."""
    import pandas as pd

    from envtune.workbook.paths import find_root, run_folder
    from envtune.workbook.reproduction import COLUMNS, cells, reproduction

    found = reproduction(run_folder(run), find_root(), published)
    shown = [record for record in found.records if record not in found.timings] if everything else found.different
    for records, title in ((shown, "numbers"), (found.timings, "times and speeds, not compared")):
        if records:
            print_table(pd.DataFrame(map(cells, records), columns=list(COLUMNS)), title)
    for chapter, reasons in found.reasons.items():
        typer.echo(f"{chapter}: {', '.join(reasons)}")
    if not found.ok:
        raise SeriesError(found.sentence())
    typer.echo(found.sentence())
