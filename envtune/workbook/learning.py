"""Figures of learning: the curves of a training, and scores before and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING, Any

from envtune.evaluation.seeds import seed_mean
from envtune.workbook.figures import PAGE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEEDBACK = {
    "execution": "execution reward",
    "turn_accuracy": "turn accuracy",
    "task_accuracy": "task accuracy",
    "error_rate": "failed calls",
    "invalid_json_rate": "messages with invalid JSON",
    "unknown_tool_rate": "calls of unknown tools",
}
"""Column of `summary.csv` (see `workbook.experiment`) -> title."""
SHARES = frozenset(FEEDBACK) - {"execution"}
"""Columns between 0 and 1."""
COURSE = {name: title for name, title in FEEDBACK.items() if name != "turn_accuracy"} | {"progress": "progress"}
"""Column of `curves.csv` -> title."""
WINDOW = 5
"""Steps behind each point of a strong line."""
CURVES: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "progress": ("progress", "C0", {"linewidth": 3.0}),
    "task_accuracy": ("task accuracy", "C1", {"linewidth": 1.4}),  # the two may be equal: it lies on top
    "val/progress": ("progress, validation", "C0", {"marker": "o", "linewidth": 0}),
    "val/task_accuracy": ("task accuracy, validation", "C1", {"marker": "s", "linewidth": 0}),
    "hint_rate": ("hint rate", "0.4", {"linestyle": "--", "drawstyle": "steps-pre"}),
}
"""Key of a line of `metrics.jsonl` -> label, colour, how it is drawn."""
NOISY = {"reward", "progress", "task_accuracy"}
"""Keys that are drawn twice: thin as they are, strong as the mean of the last `WINDOW` steps."""


STEPS = {
    "reward": "reward",
    "progress": "progress",
    "task_accuracy": "task accuracy",
    "error_rate": "failed calls",
    "format_error_rate": "unreadable messages",
    "hints": "hints per episode",
    "zero_spread": "groups without spread",
    "entropy": "entropy",
    "kl": "KL",
    "grad_norm": "gradient norm",
    "seconds/step": "seconds",
}
"""Key of a line of `metrics.jsonl` -> row of `first_and_last`."""


def curves(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Left: reward by step. Right: progress, task accuracy and hint rate by step.

    Thin lines are the steps, strong lines the means of the last `WINDOW` steps of a stage, markers
    validation without hints.

    Args:
        lines: of `metrics.jsonl`. A dotted line marks where a stage begins.
    """
    from matplotlib import pyplot

    fig, (left, right) = pyplot.subplots(1, 2, figsize=(PAGE, 3.9), width_ratios=[2, 3])
    placed, starts = along(lines)
    for i, (name, stage) in enumerate(starts):
        own = [(x, line) for x, line in placed if line["name"] == name]
        _curve(left, own, "reward", color=f"C{i}", linewidth=2.4)
        for ax in (left, right):
            ax.axvline(stage, color="0.8", linewidth=1, linestyle=":")
            height = 1.01 + 0.07 * (i % 2)  # the first stage may be short
            ax.text(stage, height, f" {name}", transform=ax.get_xaxis_transform(), va="bottom", fontsize=9, color="0.3")
    for key, (label, colour, style) in CURVES.items():
        _curve(right, placed, key, color=colour, label=label, **style)
    left.set(xlabel="step", ylabel="mean reward of a batch")
    left.set_ylim(bottom=0)
    right.set(xlabel="step", ylabel="share", ylim=(-0.02, 1.02))
    _legend_below(fig, right)
    return fig


def _curve(ax: Axes, placed: Sequence[tuple[int, Mapping[str, Any]]], key: str, **style: Any) -> None:
    points = [(x, line[key], line["stage"]) for x, line in placed if line.get(key) is not None]
    if not points:
        return
    steps, values, _ = zip(*points, strict=True)
    if key in NOISY:
        ax.plot(steps, values, color=style["color"], linewidth=0.8, alpha=0.35)
        windows = [points[max(0, i + 1 - WINDOW) : i + 1] for i in range(len(points))]
        values = tuple(fmean(y for _, y, stage in own if stage == own[-1][2]) for own in windows)
    if "marker" in style:
        style |= {"markeredgecolor": "white", "markersize": 7, "zorder": 3}
    ax.plot(steps, values, **style)


def first_and_last(lines: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The training numbers of the first and the last step of each stage, a row per number.

    Args:
        lines: of `metrics.jsonl`.
    """
    import pandas as pd

    steps = pd.DataFrame([dict(line) for line in lines if line["step"]])
    ends = pd.concat([steps.groupby("name", sort=False).nth(i) for i in (0, -1)]).sort_index()
    ends.index = pd.Index(ends.name + " " + ends.step.astype(str))
    ends = ends[~ends.index.duplicated()]  # of one step
    return ends.reindex(columns=list(STEPS)).rename(columns=STEPS).T.rename_axis("number").astype(float)


def gains_figure(frame: pd.DataFrame) -> Figure:
    """Turn accuracy per group: before as an open dot, after as a filled dot with its 95 % interval as a line.

    Args:
        frame: of `evaluation.gains.gains`.
    """
    from matplotlib import pyplot

    fig, ax = pyplot.subplots(figsize=(7.6, 1.2 + 0.24 * len(frame)))
    rows = list(range(len(frame)))[::-1]
    ax.hlines(rows, frame.before, frame.after, color="0.85", linewidth=4, zorder=1)
    ax.hlines(rows, frame.after_low, frame.after_high, color="C0", linewidth=1.2, zorder=2)
    ax.plot(frame.before, rows, "o", color="0.45", markerfacecolor="white", label="before", zorder=3)
    ax.plot(frame.after, rows, "o", color="C0", label="after", zorder=4)
    labels = [f"{str(name).replace('_', ' ')} ({n})" for name, n in frame.n.items()]
    ax.set_yticks(rows, labels, fontsize=9)
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.7, len(frame) - 0.3), xlabel="turn accuracy (number of turns in brackets)")
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")
    _legend_right(ax)
    return fig


def arms_figure(frame: pd.DataFrame, rates: Mapping[str, Sequence[float]]) -> Figure:
    """Validation without hints over steps: the mean over seeds per arm, and the range from worst to best seed.

    Curves break where a stage begins, since it may validate on other categories. A dotted line marks the place.

    Args:
        frame: columns `arm`, `seed`, `step`, `progress`. A step between two stages occurs twice.
        rates: by arm, the hint rate of every step.
    """
    from matplotlib import pyplot

    fig, (top, bottom) = pyplot.subplots(2, 1, figsize=(7.6, 4.8), sharex=True, height_ratios=[3, 1])
    frame = frame.assign(begins=frame.groupby(["arm", "seed"]).step.diff().eq(0))
    frame["stage"] = frame.groupby(["arm", "seed"]).begins.cumsum()
    for i, (arm, own) in enumerate(frame.groupby("arm", sort=False)):
        for stage, part in own.groupby("stage"):
            spread = part.groupby("step").progress
            top.plot(spread.mean(), color=f"C{i}", marker="o", markersize=4, label=None if stage else arm)
            top.fill_between(spread.mean().index, spread.min(), spread.max(), color=f"C{i}", alpha=0.15, linewidth=0)
        bottom.step(
            range(len(rates[str(arm)]) + 1), [*rates[str(arm)], rates[str(arm)][-1]], where="post", color=f"C{i}"
        )
    for begin in frame[frame.begins].step.unique():
        top.axvline(begin, color="0.8", linewidth=1, linestyle=":", zorder=0)
        bottom.axvline(begin, color="0.8", linewidth=1, linestyle=":", zorder=0)
    top.set(ylabel="progress without hints", ylim=(-0.02, 1.02))
    bottom.set(ylabel="hint rate", xlabel="step", ylim=(-0.08, 1.08))
    _legend_right(top)
    return fig


def feedback_figure(frame: pd.DataFrame) -> Figure:
    """Validation without hints while arms learn: the mean over seeds with its 95 % interval.

    Args:
        frame: columns `arm`, `seed`, `step` and those of `COURSE`.
    """
    from matplotlib import pyplot

    fig, axes = pyplot.subplots(2, 3, figsize=(PAGE, 5.4), sharex=True)
    for ax, (column, title) in zip(axes.flat, COURSE.items(), strict=True):
        for i, (arm, own) in enumerate(frame.dropna(subset=[column]).groupby("arm", sort=False)):
            steps = own.groupby("step")[column].agg(list)
            middle, low, high = zip(*map(seed_mean, steps), strict=True)
            ax.plot(steps.index, middle, color=f"C{i}", marker="o", markersize=4, label=arm)
            ax.fill_between(steps.index, low, high, color=f"C{i}", alpha=0.15, linewidth=0)
        ax.set_title(title, fontsize=10)
        if column != "execution":
            ax.set_ylim(0, max(0.05, ax.get_ylim()[1]))
    for ax in axes[1]:
        ax.set(xlabel="step")
    _legend_below(fig, axes[0][-1])
    return fig


def along(
    lines: Sequence[Mapping[str, Any]],
) -> tuple[list[tuple[int, Mapping[str, Any]]], list[tuple[str, int]]]:
    """Every line with its step since the run began, and (name, first step) of every stage."""
    placed: list[tuple[int, Mapping[str, Any]]] = []
    starts: list[tuple[str, int]] = []
    begin = 0
    for _, group in groupby(lines, key=lambda line: line["stage"]):
        own = list(group)
        starts.append((str(own[0]["name"]), begin))
        placed += [(begin + int(line["step"]), line) for line in own]
        begin += int(own[-1]["step"])
    return placed, starts


def _legend_right(ax: Axes) -> None:
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _legend_below(fig: Figure, ax: Axes) -> None:
    """The legend of one panel, under all of them."""
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9.5)


def scores_figure(frame: pd.DataFrame) -> Figure:
    """Turn accuracy by category, a panel per set of tasks, a colour per policy.

    Args:
        frame: of `evaluation.gains.scores`, its index as columns. `all` is the last category.
    """
    from matplotlib import pyplot

    panels = list(frame.groupby("tasks", sort=False))
    fig, axes = pyplot.subplots(1, len(panels), figsize=(PAGE, 3.8), sharey=True, squeeze=False)
    for ax, (title, panel) in zip(axes[0], panels, strict=True):
        categories = list(panel.category.unique())
        for i, (policy, own) in enumerate(panel.groupby("policy", sort=False)):
            own = own.set_index("category").loc[categories]
            x = [j + 0.2 * (i - 1) for j in range(len(categories))]
            interval = [own.turn_accuracy - own.turn_accuracy_low, own.turn_accuracy_high - own.turn_accuracy]
            ax.errorbar(x, own.turn_accuracy, interval, fmt="o", capsize=3, label=policy)
        ax.set_title(title)
        ax.set_xticks(range(len(categories)), [name.replace("_", "\n") for name in categories], fontsize=8.5)
        ax.set_ylim(-0.03, 1.03)
    axes[0][0].set_ylabel("turn accuracy without hints")
    _legend_below(fig, axes[0][-1])
    return fig
