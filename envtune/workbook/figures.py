"""Figures and tables as HTML that reads well in JupyterLab, in the reports and in print."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
DPI = 150
PAGE = 8.2
"""Inches: the widest figure that a report shows without scaling it down."""
# Okabe and Ito's colours: distinct for any colour vision, and by lightness when printed in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

Format = str | Callable[[Any], str]


def set_style() -> None:
    """Matplotlib settings of every figure: legible at page width, and the same bytes for the same figure."""
    import matplotlib as mpl
    from cycler import cycler

    mpl.rcParams.update(
        {
            "figure.figsize": (7.2, 4.0),
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "savefig.dpi": DPI,
            "savefig.facecolor": "white",
            "svg.hashsalt": "envtune",
            "font.size": 10.5,
            "axes.titlesize": 11.5,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "axes.prop_cycle": cycler(color=COLOURS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#666666",
            "axes.grid": True,
            "axes.grid.axis": "y",
            "axes.axisbelow": True,
            "grid.color": "#e4e4e4",
            "grid.linewidth": 0.8,
            "legend.frameon": False,
        }
    )


UNDATED: Mapping[str, dict[str, None]] = {"png": {"Software": None}, "svg": {"Date": None}}


def figure_files(fig: Figure, kinds: Sequence[str] = ("png", "svg")) -> dict[str, bytes]:
    """The figure as files of these kinds, without a time stamp."""
    files = {}
    for kind in kinds:
        buffer = io.BytesIO()
        fig.savefig(buffer, format=kind, dpi=DPI, bbox_inches="tight", metadata=UNDATED[kind])
        files[kind] = buffer.getvalue()
    return files


def figure_html(png: bytes, alt: str, caption: str) -> str:
    """An HTML figure with the image inside."""
    width = int.from_bytes(png[16:20], "big") * 96 // DPI  # from the PNG header, in CSS pixels
    image = f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="{escape(alt)}" width="{width}">'
    below = f"<figcaption>{caption_html(caption)}</figcaption>" if caption else ""
    return f'<figure class="wb-figure"><div class="wb-scroll">{image}</div>{below}</figure>'


def table_html(frame: pd.DataFrame, caption: str, formats: Mapping[str, Format]) -> str:
    """An HTML table with a caption and scoped headers, numbers aligned to the right.

    The index becomes the row headers unless it is the plain 0..n-1.

    Raises:
        KeyError: `formats` names a column that the table does not have.
    """
    missing = [column for column in formats if column not in frame.columns]
    if missing:
        raise KeyError(f"formats: no column {missing[0]!r}. The table has {list(frame.columns)}")
    columns = [_column(frame.iloc[:, i], formats.get(name)) for i, name in enumerate(frame.columns)]
    index = None if plain_index(frame) else [_label(key) for key in frame.index]
    return template("table.html").render(
        caption=caption,
        caption_html=caption_html(caption),
        corner=" / ".join(str(name) for name in frame.index.names if name is not None),
        columns=columns,
        rows=list(zip(*(column["cells"] for column in columns), strict=True)),
        index=index,
    )


def caption_html(text: str) -> Markup:
    """A caption, escaped. Text between backticks becomes code, as in Markdown."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text)))


def template(name: str) -> Any:
    """A template of this folder. Values put into it are escaped."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def plain_index(frame: pd.DataFrame) -> bool:
    """Whether the index is just 0..n-1 without a name."""
    return frame.index.names == [None] and list(frame.index) == list(range(len(frame)))


def _column(series: pd.Series[Any], wanted: Format | None) -> dict[str, Any]:
    import pandas as pd

    numeric = pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series)
    cells = [_text(value, wanted) for value in series]
    long = any(len(word) > LONG_WORD for cell in cells for word in cell.split())
    kind = "num" if numeric else "txt long" if long else "txt"
    return {"label": _label(series.name), "kind": kind, "cells": cells}


LONG_WORD = 20
"""A column with a longer word, in characters, may break words to fit the page."""


def _text(value: Any, wanted: Format | None) -> str:
    if value is None or value != value:  # NaN is not itself
        return "–"
    if callable(wanted):
        return wanted(value)
    if wanted is not None:
        return wanted.format(value) if "{" in wanted else format(value, wanted)
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _label(key: object) -> str:
    return " / ".join(str(part) for part in key) if isinstance(key, tuple) else str(key)
