"""The parts of every display: a caption of facts, rows, and the style sheet.

In: HTML fragments and plain values. Out: HTML. Functions that take plain text escape it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape, unescape
from pathlib import Path
from typing import Any, TypeVar

LONG = 400
"""Texts longer than this many characters are folded."""
TAG = re.compile(r"<[^>]+>")

Record = TypeVar("Record", bound=type)


@dataclass(frozen=True)
class View:
    """What Jupyter shows of a record."""

    facts: Sequence[str]
    """HTML fragments of its caption, the name first."""
    body: str
    """HTML: rows of `row`, tables of `grid`, or `<details>`."""

    @property
    def html(self) -> str:
        """A conversation if the body is rows, else the tables below a line of facts."""
        caption = " · ".join(self.facts)
        if self.body.startswith("<tr"):
            rows = f"<caption>{caption}</caption><tbody>{self.body}</tbody>"
            return f'<table class="et-conversation">{rows}</table>'
        above = "" if self.body.startswith("<details") else f"<p>{caption}</p>"  # a summary is its own caption
        return f'<div class="et-record">{above}{self.body}</div>'

    @property
    def line(self) -> str:
        """The facts as plain text."""
        return " · ".join(unescape(TAG.sub("", fact)) for fact in self.facts)

    def _repr_html_(self) -> str:
        return f"{style()}{self.html}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(f"<{self.line}>")


def shown(view: Callable[[Any], View]) -> Callable[[Record], Record]:
    """Class decorator: Jupyter shows the view that the function makes of a record."""

    def decorate(kind: Record) -> Record:
        setattr(kind, "_view_", view)  # noqa: B010  mypy knows no such attribute
        setattr(kind, "_repr_html_", lambda self: view(self)._repr_html_())  # noqa: B010
        setattr(kind, "_repr_pretty_", lambda self, *how: view(self)._repr_pretty_(*how))  # noqa: B010
        return kind

    return decorate


def folded(label: str, *records: Any, unfolded: bool = False) -> View:
    """Records behind a label that opens on a click.

    Args:
        label: plain text, always visible.
        records: of classes that have a view.
        unfolded: show them until the reader folds them.
    """
    inside = "".join(record._view_().html for record in records)
    opening = "<details open>" if unfolded else "<details>"
    return View([escape(label)], f"{opening}<summary>{escape(label)}</summary>{inside}</details>")


@cache
def style() -> str:
    """The style sheet as an element. It overrides JupyterLab's own rules and supports its dark themes."""
    return f"<style>{(Path(__file__).parent / 'display.css').read_text(encoding='utf-8')}</style>"


def row(kind: str, content: str, label: str | None = None) -> str:
    """A row of a conversation: who speaks, and what (HTML)."""
    who = {"truth": "ground truth", "error": "tool error"}.get(kind, kind) if label is None else label
    return f'<tr class="et-{kind}"><th scope="row">{who}</th><td>{content}</td></tr>'


def grid(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = False) -> str:
    """A table of plain texts in a box that scrolls if it must. The first column names the rows.

    Args:
        header: names of the columns.
        rows: cells.
        numbers: align all columns but the first to the right.
    """
    kind = "num" if numbers else "txt"
    kinds = ["txt"] + [kind] * (len(header) - 1)
    head = "".join(f'<th scope="col" class="{of}">{escape(name)}</th>' for of, name in zip(kinds, header, strict=True))
    body = "".join(
        f'<tr><th scope="row" class="txt">{escape(first)}</th>'
        + "".join(f'<td class="{kind}">{text(cell)}</td>' for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return scrolled(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def scrolled(table: str) -> str:
    """A table in a box that scrolls if it must."""
    return f'<div class="wb-table"><div class="wb-scroll" tabindex="0">{table}</div></div>'


def text(plain: str) -> str:
    """Text, escaped. A long one is folded."""
    if len(plain) <= LONG:
        return escape(plain)
    size = f"<em>({len(plain):,} characters)</em>"
    return f"<details><summary>{escape(plain[:LONG])} {size}</summary>{escape(plain)}</details>"


def strong(plain: str) -> str:
    """Text in bold type."""
    return f"<strong>{escape(plain)}</strong>"


def count(n: int, what: str) -> str:
    """`1 turn`, `2 turns`."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"
