"""How far does a score move while the agent stays the same? One thing at a time is varied: protocol, step limit, tool
order, seed.

In: a function that loads the agent, tasks, and a baseline of `Rules` and seed. Out: a `Result` per variation, each with
its own JSONL as `evaluate` writes it, so that a killed study goes on where it stopped. Tables: `shifts` (each variation
against the baseline, paired by task) and `detectable` (the smallest difference that shows at 95 %).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from envtune.environment.rules import DEFAULT, PROTOCOLS, Rules, rules_of
from envtune.evaluation import Result, cluster_mean, evaluate, paired_difference
from envtune.evaluation.result import METRICS
from envtune.evaluation.stats import smallest_difference, standard_error
from envtune.policy.base import Policy
from envtune.types import id_number

if TYPE_CHECKING:
    import pandas as pd

    from envtune.types import Task

STEP_LIMITS = (5, 10, 20, 40)
"""Tool steps per turn: the paper's, T3RL's, the official ones, and twice as many."""
POWER = 0.8
"""Probability with which a true difference should be found."""
INSTANCES = 400
"""The benchmark's held-out instances."""

Load = Callable[[int, float], Policy]
"""Loads the agent with a seed and a temperature."""


class Kind(StrEnum):
    """What differs from the baseline."""

    BASELINE = "baseline"
    """Nothing."""
    PROTOCOL = "protocol"
    """All rules: those of a published system."""
    STEP_LIMIT = "step-limit"
    """Tool steps allowed in one turn."""
    TOOL_ORDER = "tool-order"
    """The order of the tool documents that the agent reads."""
    SEED = "seed"
    """The seed of the agent: of a language model's sampling, of a scripted agent's mistakes."""


VARIED = tuple(kind for kind in Kind if kind is not Kind.BASELINE)


@dataclass(frozen=True)
class Variation:
    """How one evaluation of the study is played."""

    kind: Kind
    value: str
    rules: Rules
    seed: int
    """Of the agent."""

    @property
    def file(self) -> str:
        """Name of its JSONL."""
        return f"{self.kind}-{self.value}.jsonl".replace(" ", "-")


Study = Mapping[Variation, Result]
"""The evaluations of one agent, the baseline first."""


def variations(
    baseline: Rules = DEFAULT, seed: int = 0, repeats: int = 3, kinds: Sequence[Kind] = VARIED
) -> tuple[Variation, ...]:
    """The baseline, and what differs from it in one thing.

    Args:
        baseline: rules of the baseline.
        seed: of the agent in all variations but `seed`.
        repeats: number of tool orders and of further seeds.
        kinds: what to vary.
    """
    orders = [n for n in range(repeats + 1) if n != baseline.tool_seed][:repeats]
    everything = (
        *(Variation(Kind.PROTOCOL, name, rules, seed) for name, rules in PROTOCOLS.items()),
        *(Variation(Kind.STEP_LIMIT, str(n), rules_of(baseline, max_steps_per_turn=n), seed) for n in STEP_LIMITS),
        *(Variation(Kind.TOOL_ORDER, f"shuffle {n}", rules_of(baseline, tool_seed=n), seed) for n in orders),
        *(Variation(Kind.SEED, str(n), baseline, n) for n in range(seed + 1, seed + repeats + 1)),
    )
    wanted = [each for each in everything if each.kind in kinds and (each.rules, each.seed) != (baseline, seed)]
    return (Variation(Kind.BASELINE, baseline.name or "default", baseline, seed), *wanted)


def sensitivity(
    load: Load,
    tasks: Sequence[Task],
    folder: Path | None = None,
    *,
    baseline: Rules = DEFAULT,
    seed: int = 0,
    temperature: float = 0.0,
    repeats: int = 3,
    kinds: Sequence[Kind] = VARIED,
    batch_size: int = 32,
    progress: bool = True,
) -> Study:
    """Play one agent under every variation. Seeds are varied only if its answers depend on them.

    Args:
        load: loads the agent, once per seed and temperature.
        tasks: what to play.
        folder: for a file per variation. None: nothing is written.
        baseline, seed, repeats, kinds: see `variations`.
        temperature: where the rules do not set it.
        batch_size: see `evaluate`.
        progress: show a progress bar over all episodes.
    """

    def drawn(variation: Variation) -> tuple[int, float]:
        given = variation.rules.temperature
        return variation.seed, temperature if given is None else given

    planned = variations(baseline, seed, repeats, kinds)
    loaded = first = drawn(planned[0])
    policy = load(*loaded)
    if "seed" not in policy.settings:
        planned = tuple(variation for variation in planned if variation.kind is not Kind.SEED)
    found: dict[Variation, Result] = {}
    with tqdm(total=len(planned) * len(tasks), unit="episode", disable=not progress) as bar:
        for variation in sorted(planned, key=lambda each: (drawn(each) != first, drawn(each))):
            if drawn(variation) != loaded:
                del policy  # two models at once may not fit
                policy = load(*(loaded := drawn(variation)))
            bar.set_description(f"{policy.name}, {variation.kind} {variation.value}")
            path = folder / variation.file if folder else None
            found[variation] = evaluate(policy, tasks, path, rules=variation.rules, batch_size=batch_size, progress=bar)
    return {variation: found[variation] for variation in planned}


def shifts(study: Study, metric: str = "task_accuracy") -> pd.DataFrame:
    """One row per variation: how far the score moved.

    Args:
        study: of `sensitivity`.
        metric: `task_accuracy`, `strict_task_accuracy` or `progress`.

    Returns:
        Indexed by `varied` (the kind) and `value`: `n` tasks, the `score`, the paired `difference` to the baseline, and
        `changed`, the share of tasks whose value differs. `_low` and `_high` are the ends of 95 % intervals by id
        number, so that `readable` shows the table.
    """
    import pandas as pd

    rows = []
    for variation, values, differences, clusters in _paired(study, metric):
        score = cluster_mean(values, clusters)
        against = paired_difference(differences, [0.0] * len(values), clusters)
        rows.append(
            {
                "varied": str(variation.kind),
                "value": variation.value,
                "n": score.n,
                "score": score.value,
                "score_low": score.low,
                "score_high": score.high,
                "difference": against.value,
                "difference_low": against.low,
                "difference_high": against.high,
                "changed": _share(differences),
            }
        )
    return pd.DataFrame(rows).set_index(["varied", "value"])


def ranges(table: pd.DataFrame) -> pd.DataFrame:
    """By kind of variation: its `lowest` and `highest` score, the baseline included, and their `range`.

    Args:
        table: of `shifts`.
    """
    import pandas as pd

    start = table.score.iloc[0]
    rows = {}
    for kind, own in table.iloc[1:].groupby("varied", sort=False):
        lowest, highest = min(start, own.score.min()), max(start, own.score.max())
        rows[kind] = {"lowest": lowest, "highest": highest, "range": highest - lowest}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("varied")


def detectable(study: Study, metric: str = "task_accuracy", instances: int = INSTANCES) -> pd.DataFrame:
    """The smallest difference to the baseline that shows at 95 % with `instances` tasks of this kind.

    The standard errors of the tasks played are scaled by the root of their number to `instances` tasks, with the same
    number of siblings per id number.

    Returns:
        Indexed by `comparison`: a row for two scores that are compared `unpaired`, and one per kind of variation for
        scores that are `paired` by task. `changed`: share of tasks whose value differs. `observed`: the smallest
        difference that excludes zero. `true`: the smallest true difference that is found with a probability of 80 %.
        NaN: no task differs.
    """
    import pandas as pd

    played = list(_paired(study, metric))
    _, values, _, clusters = played[0]
    scale = math.sqrt(len(values) / instances)
    alone = standard_error(values, clusters)
    rows: list[tuple[str, float, tuple[float, ...]]] = [("unpaired", math.nan, (alone, alone))]
    for kind, group in groupby(played[1:], key=lambda each: each[0].kind):
        own = [differences for _, _, differences, _ in group]
        squares = [standard_error(differences, clusters) ** 2 for differences in own]
        rows.append((f"paired, {kind}", _mean(list(map(_share, own))), (math.sqrt(_mean(squares)),)))
    found = {
        name: {
            "changed": changed,
            "observed": scale * smallest_difference(*errors),
            "true": scale * smallest_difference(*errors, power=POWER),
        }
        for name, changed, errors in rows
    }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis("comparison")


def _paired(study: Study, metric: str) -> Iterator[tuple[Variation, list[float], list[float], list[int]]]:
    """Of every variation: values by task, their differences to the baseline, and the tasks' id numbers."""
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}. Known: {', '.join(METRICS)}")
    start: list[float] | None = None
    for variation, result in study.items():
        values = [float(getattr(row, METRICS[metric])) for row in result.rows]
        start = start or values
        differences = [value - before for value, before in zip(values, start, strict=True)]
        yield variation, values, differences, [id_number(row.task_id) for row in result.rows]


def _share(differences: Sequence[float]) -> float:
    return _mean([float(difference != 0) for difference in differences])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
