"""Figures of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envtune.evaluation.mistakes import Mistake

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
    fig, ax = pyplot.subplots(figsize=(8.6, 1.2 + 0.45 * len(frame)))
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
