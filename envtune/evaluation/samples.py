"""Several samples of one run: how often a policy solves a task, and how often it does so in every sample.

In: how to load the policy with a seed, tasks, a folder. Out: a `Result` per sample, each with its own JSONL
`sample-<i>.jsonl` as `evaluate` writes it, so that a killed run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envtune.data.audit import is_sound
from envtune.evaluation.evaluate import evaluate, load_result
from envtune.evaluation.result import METRICS, Result, differences
from envtune.evaluation.stats import cluster_means
from envtune.policy.base import Policy
from envtune.types import Category, Task, id_number

if TYPE_CHECKING:
    import pandas as pd


def evaluate_samples(
    load: Callable[[int], Policy],
    tasks: Sequence[Task],
    path: Path | None,
    samples: int = 1,
    seed: int = 0,
    **options: Any,
) -> list[Result]:
    """Play every task `samples` times, with the seeds `seed`, `seed + 1`, ...

    Args:
        load: gives the policy with a given seed.
        tasks: what to play.
        path: a folder for a file per sample, or, for one sample, that file. None: nothing is written.
        samples: how often each task is played.
        seed: of the first sample.
        options: of `evaluate`.

    Raises:
        ValueError: the policy does not depend on its seed, so all samples would be the same.
    """
    policy = load(seed)
    if samples > 1 and "seed" not in policy.settings:
        raise ValueError(f"policy {policy.name} answers the same every time. Give it a temperature to sample from it")
    several = path is not None and samples > 1
    files = [path / f"sample-{i}.jsonl" if path and several else path for i in range(samples)]
    first = evaluate(policy, tasks, files[0], **options)
    del policy  # two models at once may not fit
    return [first, *(evaluate(load(seed + i), tasks, file, **options) for i, file in enumerate(files[1:], start=1))]


def load_runs(path: Path | str) -> list[Result]:
    """The result that `evaluate` wrote to `path`, or the samples that `evaluate_samples` wrote to that folder.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: a file is damaged or unfinished, or the files of a folder are not samples of one run.
    """
    path = Path(path)
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise FileNotFoundError(f"no run at {path}: `envtune evaluate POLICY --out {path}` writes one")
    results = [load_result(file) for file in files]
    for file, result in zip(files, results, strict=True):
        if _who(result) != _who(results[0]) or differences(results[0], result):
            raise ValueError(
                f"{path} holds several runs, such as {files[0].name} and {file.name}. Name one of the files"
            )
    return results


def sample_table(results: Sequence[Result], sound: bool = False) -> pd.DataFrame:
    """One line per category and a total, over all samples, each measure with its 95 % interval by id number.

    Columns: `n` tasks and `samples` of each, `pass@1` (the mean accuracy), `pass^k` (tasks solved in all k samples) and
    `pass@k` (in at least one) for k = `samples`, and `strict_task_accuracy` and `progress`, means over samples. `sound`
    adds a line over the sound instances.
    """
    import pandas as pd

    k = len(results)
    tables = [[[float(getattr(row, field)) for row in run.rows] for run in results] for field in METRICS.values()]
    success, strict, progress = ([sum(task) / k for task in zip(*table, strict=True)] for table in tables)
    columns = {
        "pass@1": success,
        f"pass^{k}": [float(share == 1) for share in success],
        f"pass@{k}": [float(share > 0) for share in success],
        "strict_task_accuracy": strict,
        "progress": progress,
    }
    frame = pd.DataFrame(columns)
    frame["category"] = [str(row.category) for row in results[0].rows]
    frame["number"] = [id_number(row.task_id) for row in results[0].rows]
    groups = {str(c): part for c in Category if len(part := frame[frame.category == c])} | {"all": frame}
    fair = frame[[is_sound(row.task_id) for row in results[0].rows]]
    if sound and len(fair):
        groups["sound"] = fair
    return pd.DataFrame(
        [_line(part, list(columns), k) for part in groups.values()], index=pd.Index(groups, name="category")
    )


def _line(part: pd.DataFrame, names: Sequence[str], k: int) -> dict[str, float]:
    line: dict[str, float] = {"n": len(part), "samples": k}
    for name, e in zip(
        names, cluster_means([part[name].tolist() for name in names], part.number.tolist()), strict=True
    ):
        line |= {name: e.value, f"{name}_low": e.low, f"{name}_high": e.high}
    return line


def _who(result: Result) -> tuple[str, dict[str, Any]]:
    return result.policy, {key: value for key, value in result.config["settings"].items() if key != "seed"}
