"""Figures of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from envtune.evaluation.mistakes import Mistake
from envtune.workbook.figures import PAGE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def mistakes_figure(frame: pd.DataFrame) -> Figure:
    """Share of the user turns that each kind of mistake lost, a stacked bar per category.

    Args:
        frame: of `evaluation.mistakes.mistake_frame`.
    """
    from matplotlib import pyplot

    shares = frame.drop(columns="turns").div(frame.turns, axis=0)
    shares = shares.loc[:, shares.any()]
    fig, ax = pyplot.subplots(figsize=(PAGE, 1.2 + 0.45 * len(frame)))
    colours = dict(zip(Mistake, pyplot.get_cmap("tab10").colors, strict=False))  # type: ignore[attr-defined]
    left = 0.0 * frame.turns
    for name in (mistake for mistake in Mistake if mistake in shares):
        ax.barh(
            shares.index, shares[name], left=left, label=name, color=colours[name], edgecolor="white", linewidth=0.5
        )
        left = left + shares[name]
    ax.set(xlim=(0, max(0.01, float(left.max()) * 1.02)), xlabel="share of user turns (number of turns in brackets)")
    ax.set_yticks(range(len(frame)), [f"{str(name).replace('_', ' ')} ({n})" for name, n in frame.turns.items()])
    ax.invert_yaxis()
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")
    if len(shares.columns):
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def shifts_figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """How far each variation moves the score, a panel per agent, a colour per kind of variation.

    Args:
        tables: agent -> table of `studies.sensitivity.shifts`.
    """
    from matplotlib import pyplot

    moved = {agent: 100 * table.iloc[1:].select_dtypes("float") for agent, table in tables.items()}
    kinds = list(dict.fromkeys(kind for table in moved.values() for kind, _ in table.index))
    found = {place for table in moved.values() for place in table.index}
    places = sorted(found, key=lambda place: (kinds.index(place[0]), len(place[1]), place[1]))
    size = 2.6 * len(moved) + 1.6, 1.2 + 0.27 * len(places)
    fig, axes = pyplot.subplots(1, len(moved), figsize=size, sharey=True, squeeze=False)
    for ax, (agent, table) in zip(axes[0], moved.items(), strict=True):
        for kind, own in table.groupby("varied", sort=False):
            rows, colour = [places.index(place) for place in own.index], f"C{kinds.index(kind)}"
            ax.hlines(rows, own.difference_low, own.difference_high, color=colour, linewidth=1.6)
            ax.plot(own.difference, rows, "o", color=colour, markersize=5)
        ax.axvline(0, color="0.5", linewidth=1, zorder=0)
        ax.set(title=agent, xlabel="percentage points")
        ax.grid(axis="x")
        ax.grid(visible=False, axis="y")
    axes[0][0].set_yticks(range(len(places)), [f"{kind} {value}" for kind, value in places])
    axes[0][0].invert_yaxis()
    return fig
