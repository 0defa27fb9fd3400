"""Tables in the terminal."""

from __future__ import annotations

from typing import Any


def print_table(frame: Any, title: str) -> None:
    """A data frame as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for i, name in enumerate(frame.columns):
        table.add_column(str(name), justify="right" if i else "left")
    for row in frame.itertuples(index=False):
        table.add_row(*map(str, row))
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=160)).print(table)
