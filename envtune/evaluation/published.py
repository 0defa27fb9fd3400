"""Published scores and ours, in percent. `published.csv` has source, n, protocol and date of every row."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

import pandas as pd

from envtune.evaluation.result import Result
from envtune.types import Category

COLUMNS = ("model", "run", "average", *map(str, Category), "n", "protocol", "source", "date")


def published() -> pd.DataFrame:
    """The published rows, in the order of their sources. A score that was not published is NaN."""
    with resources.files("envtune.evaluation").joinpath("published.csv").open(encoding="utf-8") as file:
        rows = pd.read_csv(file, dtype={"date": str}, keep_default_na=True)
    return rows.assign(run="", date=rows.date.fillna("")).reindex(columns=list(COLUMNS))


def beside_published(ours: Mapping[str, Result], date: str, laptop: bool) -> pd.DataFrame:
    """Published rows and ours, best average first.

    Args:
        ours: run id -> evaluation.
        date: of ours.
        laptop: ours were trained or played on a laptop. They are marked and stand below all others, in the order given,
            because they cannot be compared with them.

    Returns:
        The columns `COLUMNS`. Scores are in percent. `average` is the task accuracy over all instances.
    """
    rows = pd.DataFrame([_row(run, result, date, laptop) for run, result in ours.items()], columns=list(COLUMNS))
    full = [published()] if laptop else [published(), rows]
    ranked = pd.concat(full).sort_values("average", ascending=False, kind="stable")
    return pd.concat([ranked, rows] if laptop else [ranked], ignore_index=True)


def protocol_text(result: Result) -> str:
    """Split and protocol of a run, as text."""
    protocol = result.config["protocol"]
    temperature = result.config["settings"].get("temperature")
    words = [
        _split_text(result),
        *([str(protocol["name"])] if protocol.get("name") else []),
        f"{protocol['max_steps_per_turn']} steps a turn",
        *([f"temperature {temperature:g}" if temperature else "greedy"] if temperature is not None else []),
    ]
    return ", ".join(words)


def _split_text(result: Result) -> str:
    if result.drawn_from is None:
        return "procedural tasks"
    name = {"heldout": "held out", "all": "the benchmark"}.get(result.drawn_from, result.drawn_from)
    return name if result.split else f"part of {name}"


def _row(run: str, result: Result, date: str, laptop: bool) -> list[object]:
    accuracy = result.by_category.task_accuracy.mul(100).to_dict()
    name = f"{result.policy} (laptop)" if laptop else result.policy
    scores = [accuracy.get(str(category), float("nan")) for category in Category]
    source = "this project, laptop" if laptop else "this project"
    return [name, run, 100 * result.accuracy, *scores, len(result), protocol_text(result), source, date]
