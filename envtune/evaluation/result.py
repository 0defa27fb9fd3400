"""The numbers of one evaluation: rates by category with intervals, and the comparison of two runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

from envtune.data.audit import is_sound
from envtune.data.splits import split_around, split_of
from envtune.display import View, grid, shown
from envtune.evaluation.records import Row
from envtune.evaluation.stats import Difference, cluster_means, paired_difference
from envtune.policy.base import SHORT_PROMPT, WITHOUT
from envtune.types import JSON, Category, Episode, Unusable, id_number

if TYPE_CHECKING:
    import pandas as pd

METRICS = {"task_accuracy": "success", "strict_task_accuracy": "strict_success", "progress": "progress"}
"""Column with an interval -> field of a row."""
FREQUENT = 0.05
"""Share of unusable messages above which a result warns."""


def result_view(result: Result) -> View:
    """Accuracies with their intervals, by category. The first and the last id say what was played."""
    facts = [f"<strong>{escape(result.policy)}</strong>", f"{len(result):,} tasks"]
    facts.append(f"{escape(result.rows[0].task_id)} to {escape(result.rows[-1].task_id)}")
    facts += [f"task accuracy {result.accuracy:.1%}", f"turn accuracy {result.turn_accuracy:.1%}"]
    frame = readable(result.table())
    rows = ([str(name), *cells] for name, *cells in frame.itertuples())
    return View(facts, grid(["category", *frame], rows, numbers=True))


@shown(result_view)
@dataclass(frozen=True)
class Result:
    """A finished evaluation."""

    config: JSON
    """Policy, protocol, data version and hash of the tasks (`records.Header`)."""
    rows: tuple[Row, ...]
    """One per task, in task order."""

    @property
    def policy(self) -> str:
        """Name of the policy."""
        return str(self.config["policy"])

    @property
    def split(self) -> str | None:
        """The benchmark's split that was played, if all of it was played in every category that occurs."""
        if not self._of_benchmark:
            return None
        found = {split_of(_numbers(self.only(category).rows)) for category in self._categories}
        return found.pop() if len(found) == 1 else None

    @property
    def drawn_from(self) -> str | None:
        """The smallest split of the benchmark that holds all instances played. None for other tasks."""
        return split_around(_numbers(self.rows)) if self._of_benchmark else None

    @property
    def _categories(self) -> set[Category]:
        return {row.category for row in self.rows}

    @property
    def _of_benchmark(self) -> bool:
        return all(row.task_id.startswith("multi_turn_") for row in self.rows)

    @property
    def episodes(self) -> list[Episode]:
        """The episodes, in task order."""
        return [row.episode for row in self.rows]

    @property
    def accuracy(self) -> float:
        """Share of tasks with the official verdict `success`."""
        return sum(row.success for row in self.rows) / len(self.rows)

    @property
    def turn_accuracy(self) -> float:
        """Share of correct turns among all user turns of all tasks. A turn that was never played is not correct."""
        return sum(row.correct_turns for row in self.rows) / sum(row.n_turns for row in self.rows)

    @property
    def unusable(self) -> dict[Unusable, int]:
        """Messages that could not be used, by kind. Kinds that did not occur are left out."""
        return {kind: n for kind in Unusable if (n := sum(row.unusable.get(kind, 0) for row in self.rows))}

    @property
    def notes(self) -> dict[str, int]:
        """Messages that the policy noted something about, by note (`policy.base.Chat.notes`)."""
        return dict(sum((Counter(row.notes) for row in self.rows), Counter()))

    @property
    def warnings(self) -> list[str]:
        """What a reader must know before the scores, a line each."""
        steps = sum(row.steps for row in self.rows)
        found = []
        if (lost := sum(self.unusable.values())) > FREQUENT * steps:
            kinds = ", ".join(f"{n} {kind}" for kind, n in self.unusable.items())
            found.append(f"{lost / steps:.1%} of {steps} messages could not be used: {kinds}")
        if n := self.notes.get(SHORT_PROMPT):
            found.append(f"the server read only a part of the prompt in {n} of {steps} messages")
        if missing := {note: n for note, n in self.notes.items() if note.startswith(WITHOUT)}:
            names = ", ".join(sorted(note.removeprefix(WITHOUT) for note in missing))
            found.append(f"the server takes requests only without {names}: {max(missing.values())} of {steps} messages")
        return found

    @cached_property
    def by_category(self) -> pd.DataFrame:
        """`table()` without its total row."""
        present = [category for category in Category if any(row.category is category for row in self.rows)]
        groups = {str(category): [row for row in self.rows if row.category is category] for category in present}
        return _frame(groups, self._counted)

    @property
    def _counted(self) -> list[str]:
        """Columns for what occurs in few results."""
        return [*map(str, self.unusable), *sorted(self.notes)]

    def table(self, sound: bool = False) -> pd.DataFrame:
        """One line per category and a total.

        With `sound` there is one more line of that name, over the sound instances (`data.audit`).

        Columns with an interval: `task_accuracy` (official), `strict_task_accuracy` (and no call in a turn that expects
        none) and `progress` (mean of R_P). `_low` and `_high` are the ends of a 95 % bootstrap interval over id
        numbers. Other columns: `n` tasks, `turn_accuracy`, `calls_per_turn` and `steps_per_turn` (over turns played),
        `error_rate` (share of calls that failed, NaN without calls), `format_error_rate` (share of steps that could not
        be parsed), `guarded_calls`, and a count for every kind of `Unusable` and every note that occurs.
        """
        import pandas as pd

        totals = {"all": list(self.rows)}
        if sound and (part := [row for row in self.rows if is_sound(row.task_id)]):
            totals["sound"] = part
        return pd.concat([self.by_category, _frame(totals, self._counted)])

    @property
    def sound(self) -> Result:
        """The part on sound instances of the benchmark (`data.audit`).

        Raises:
            ValueError: there is none.
        """
        rows = tuple(row for row in self.rows if is_sound(row.task_id))
        if not rows:
            raise ValueError(f"none of the {len(self)} tasks is sound. `envtune audit` lists the others")
        return replace(self, rows=rows)

    def only(self, category: Category | str) -> Result:
        """The part of one category.

        Raises:
            ValueError: no such category, or none of its tasks was played.
        """
        rows = tuple(row for row in self.rows if row.category is Category(category))
        if not rows:
            raise ValueError(f"no task of {category} was played. There are {', '.join(sorted(self._categories))}")
        return replace(self, rows=rows)

    def __len__(self) -> int:
        return len(self.rows)


Runs = Result | Sequence[Result]
"""A run, or the samples of one."""


def compare(a: Runs, b: Runs, metric: str = "task_accuracy") -> Difference:
    """`a` minus `b` on the same tasks, with a 95 % interval and a p-value, both by id number.

    Args:
        a, b: two runs, in any order of their tasks. Samples of a run count with their mean.
        metric: `task_accuracy`, `strict_task_accuracy` or `progress`.

    Raises:
        ValueError: unknown metric, or runs whose protocol, data or tasks differ. The message names what differs.
    """
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}. Known: {', '.join(METRICS)}")
    first, second = _listed(a), _listed(b)
    if found := [line for run in second for line in differences(first[0], run)]:
        raise ValueError(f"these runs cannot be compared: {'; '.join(dict.fromkeys(found))}")
    x, y = (_means(runs, METRICS[metric]) for runs in (first, second))
    return paired_difference(list(x.values()), [y[task_id] for task_id in x], [id_number(task_id) for task_id in x])


def comparison(a: Runs, b: Runs) -> pd.DataFrame:
    """`compare` for every metric over all categories, and for task accuracy within each.

    Returns:
        Indexed by `metric` and `category`: `n`, the means `a` and `b`, `difference` with `low` and `high`, and `p`.
    """
    import pandas as pd

    first, second = _listed(a), _listed(b)
    categories = [c for c in Category if any(row.category is c for row in first[0].rows)]
    rows = {}
    for metric, category in [*((metric, None) for metric in METRICS), *(("task_accuracy", c) for c in categories)]:
        parts = [[run.only(category) if category else run for run in runs] for runs in (first, second)]
        found = compare(parts[0], parts[1], metric)
        means = [_means(runs, METRICS[metric]) for runs in parts]
        rows[metric, category or "all"] = {
            "n": found.n,
            **{name: sum(mean.values()) / len(mean) for name, mean in zip("ab", means, strict=True)},
            "difference": found.value,
            "low": found.low,
            "high": found.high,
            "p": found.p_value,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["metric", "category"])


def differences(a: Result, b: Result) -> list[str]:
    """Why two runs cannot be compared: what differs in protocol, data version or tasks."""
    found = [
        f"{part} {key} is {x!r} in one and {y!r} in the other"
        for part in ("protocol", "data")
        for key in sorted(a.config[part].keys() | b.config[part].keys())
        if (x := a.config[part].get(key)) != (y := b.config[part].get(key))
    ]
    ids = [[row.task_id for row in run.rows] for run in (a, b)]
    if alone := set(ids[0]) ^ set(ids[1]):
        found.append(
            f"the runs do not share their tasks: {len(alone)} are in one only, such as {min(alone)} ({_tasks_of(a)} in "
            f"one, {_tasks_of(b)} in the other)"
        )
    elif ids[0] == ids[1] and a.config["tasks"] != b.config["tasks"]:
        found.append("the tasks have the same names but other contents")
    return found


def _tasks_of(run: Result) -> str:
    return f"{len(run)} of split {run.split}" if run.split else str(len(run))


def _listed(runs: Runs) -> list[Result]:
    return [runs] if isinstance(runs, Result) else list(runs)


def _means(runs: Sequence[Result], field: str) -> dict[str, float]:
    """Task -> mean over the samples, in the order of the first."""
    sums = {row.task_id: 0.0 for row in runs[0].rows}
    for run in runs:
        for row in run.rows:
            sums[row.task_id] += getattr(row, field)
    return {task_id: total / len(runs) for task_id, total in sums.items()}


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A table of measures as text: percentages with their 95 % intervals, unless all tasks agree.

    The column `difference` shows its sign.
    """
    import pandas as pd

    measures = [name for name in table.columns if not name.endswith(("_low", "_high"))]
    rows = [{name.replace("_", " "): _cell(row, name) for name in measures} for row in table.to_dict("records")]
    return pd.DataFrame(rows, index=table.index)


def _cell(row: Mapping[Hashable, Any], name: str) -> str:
    value = row[name]
    if math.isnan(value):
        return "–"
    if name in ("n", "answers", "samples", "guarded_calls", SHORT_PROMPT, *Unusable) or name.startswith(WITHOUT):
        return f"{value:.0f}"
    low, high = (row.get(f"{name}_{end}", value) for end in ("low", "high"))
    sign = "+" if name == "difference" else ""
    if low < high:
        return f"{value:{sign}.1%} [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"
    return f"{value:.2f}" if name.endswith("_per_turn") else f"{value:{sign}.1%}"


def _numbers(rows: Sequence[Row]) -> list[int]:
    return [id_number(row.task_id) for row in rows]


def _frame(groups: dict[str, list[Row]], counted: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([_summary(rows, counted) for rows in groups.values()], index=pd.Index(groups, name="category"))


def _summary(rows: Sequence[Row], counted: Sequence[str]) -> dict[str, float]:
    columns = [[float(getattr(row, field)) for row in rows] for field in METRICS.values()]
    estimates = cluster_means(columns, _numbers(rows))
    summary: dict[str, float] = {"n": len(rows)}
    for name, estimate in zip(METRICS, estimates, strict=True):
        summary |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}

    def total(field: str) -> int:
        return sum(getattr(row, field) for row in rows)

    return summary | {
        "turn_accuracy": total("correct_turns") / total("n_turns"),
        "calls_per_turn": _ratio(total("calls"), total("played_turns")),
        "steps_per_turn": _ratio(total("steps"), total("played_turns")),
        "error_rate": _ratio(total("failed_calls"), total("calls")),
        "format_error_rate": _ratio(total("format_errors"), total("steps")),
        "guarded_calls": total("guarded_calls"),
        **{name: sum(row.rare.get(name, 0) for row in rows) for name in counted},
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
