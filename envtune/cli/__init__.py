"""The command line. Exit code 0: what was asked for is done. 1: an error, with its reason in one line. 2: wrong usage.

Each module holds a group of commands. A command imports what it needs when it runs, so that `envtune --help` is quick.
"""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from envtune.cli import bench, publish, scores, series, serve, studies, tiny
from envtune.extras import naming_extra
from envtune.workbook.errors import SeriesError

EXPECTED = (ValueError, SeriesError, OSError, ModuleNotFoundError)
"""Errors that the user can mend. Only their message is shown."""
GOES_ON = dict.fromkeys(("run", "train", "arms"), ". The same command goes on from here") | dict.fromkeys(
    ("evaluate", "sensitivity"), ". With --out, the same command goes on from here"
)
"""What an interrupt of a command that keeps its work says."""


class _Group(TyperGroup):
    """Turns expected errors of any command into one line each on standard error, and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with naming_extra():
                return super().invoke(ctx)
        except EXPECTED as error:
            if detail := getattr(error, "detail", ""):
                typer.echo(detail, err=True)
            for line in str(error).splitlines():
                typer.echo(f"envtune: error: {line}", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            typer.echo(f"\nenvtune: error: interrupted{GOES_ON.get(ctx.invoked_subcommand or '', '')}", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Group,
    help="Teach a language model to use tools by tuning the environment it explores.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"envtune {installed_version('envtune')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


for group in (series, scores, studies, publish, serve):
    app.add_typer(group.commands)
for name, group in {"bench": bench, "tiny": tiny}.items():
    app.add_typer(group.commands, name=name)


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="envtune")
