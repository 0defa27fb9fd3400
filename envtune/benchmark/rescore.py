"""Two verdicts on the same messages, from this project's checker and from the benchmark's own, and why they differ.

In: a result file of the benchmark, or a run that `evaluate` wrote. Out: a `Rescored`, one item per instance. A result
file's messages are replayed here without a step limit, as the official checker does. A run keeps the verdict it had
when it was played. A difference is explained by one of `CAUSES`, or it is a defect of one of the two checkers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from envtune.benchmark import confined, verify
from envtune.benchmark.official import Verdict, call_string
from envtune.benchmark.result_files import Entry, entry_of, official_reading, our_reading, read_results
from envtune.environment import replay
from envtune.evaluation.evaluate import load_result
from envtune.types import Category, Episode, StopReason, Task, ToolCall

READ_DIFFERENTLY = "read differently"
"""A message in which the two read different calls: `chat` lists what is stricter here."""
LAST_TURN = "cut off in the last turn"
"""The official checker recognises a cut-off turn by a missing next turn, so it misses a cut-off last turn."""
NO_VERDICT = "no official verdict"
"""The official checker took too long, too much memory, or crashed."""
CAUSES = (NO_VERDICT, LAST_TURN, READ_DIFFERENTLY, *verify.CAUSES)


@dataclass(frozen=True, slots=True)
class Item:
    """One instance."""

    task_id: str
    category: Category
    ours: bool
    official: Verdict
    cause: str | None
    """Why the two differ. None if they agree, or if the cause is unknown."""

    @property
    def differs(self) -> bool:
        """Whether the two verdicts differ, or the official checker gave none."""
        return self.ours != self.official.valid or not self.official.reached


@dataclass(frozen=True)
class Rescored:
    """Both verdicts on every instance."""

    items: tuple[Item, ...]

    @property
    def unexplained(self) -> list[Item]:
        """Differences without a known cause."""
        return [item for item in self.items if item.differs and item.cause is None]

    def table(self) -> pd.DataFrame:
        """By category and in all: `n`, `ours` and `official` accuracy, `differences` and those `unexplained`."""
        groups = {str(c): [item for item in self.items if item.category is c] for c in Category}
        rows = {
            name: {
                "n": len(items),
                "ours": sum(item.ours for item in items) / len(items),
                "official": sum(item.official.valid for item in items) / len(items),
                "differences": sum(item.differs for item in items),
                "unexplained": sum(item.differs and item.cause is None for item in items),
            }
            for name, items in (groups | {"all": list(self.items)}).items()
            if items
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("category")

    def differences(self) -> pd.DataFrame:
        """One row per difference: `instance`, `ours`, `official`, `error_type`, `cause`."""
        rows = [
            (item.task_id, item.ours, item.official.valid, item.official.error_type or "", item.cause or "unexplained")
            for item in self.items
            if item.differs
        ]
        return pd.DataFrame(rows, columns=["instance", "ours", "official", "error_type", "cause"])


def rescore(path: Path | str, tasks: Sequence[Task], partial: bool = False) -> Rescored:
    """Both verdicts on a result file, a folder of them, or the JSONL of an evaluation.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: see `result_files.read_results` and `load_result`.
    """
    if is_run(path):
        return rescore_episodes(load_result(path).episodes, tasks)
    by_id = {task.id: task for task in tasks}
    entries = read_results(path, tasks, partial)
    return _rescored([(by_id[entry.task_id], entry, _replayed(by_id[entry.task_id], entry)) for entry in entries])


def rescore_episodes(episodes: Sequence[Episode], tasks: Sequence[Task]) -> Rescored:
    """Both verdicts on episodes played here.

    Raises:
        ValueError: an episode of a task that is not among `tasks`.
    """
    by_id = {task.id: task for task in tasks}
    if unknown := [episode.task_id for episode in episodes if episode.task_id not in by_id]:
        raise ValueError(f"{unknown[0]} is not an instance of the benchmark, so it has no official verdict")
    return _rescored([(by_id[episode.task_id], entry_of(episode), episode) for episode in episodes])


def is_run(path: Path | str) -> bool:
    """Whether this is a file that `evaluate` wrote."""
    if not Path(path).is_file():
        return False
    with Path(path).open("rb") as file:
        return file.read(18) == b'{"schema_version":'


def _replayed(task: Task, entry: Entry) -> Episode:
    turns = [[our_reading(message) for message in turn] for turn in (entry.turns or ())[: task.n_turns]]
    return replay(task, turns)


def _rescored(played: Sequence[tuple[Task, Entry, Episode]]) -> Rescored:
    work = [(task, _official_expressions(entry)) for task, entry, _ in played]
    verdicts = tqdm(confined.verdicts(work), total=len(work), desc="official verdicts", delay=2)
    return Rescored(
        tuple(
            _item(task, entry, episode, official)
            for (task, entry, episode), official in zip(played, verdicts, strict=True)
        )
    )


def _official_expressions(entry: Entry) -> list[list[list[str]]]:
    return [[step for message in turn if (step := official_reading(message))] for turn in entry.turns or ()]


def _item(task: Task, entry: Entry, episode: Episode, official: Verdict) -> Item:
    ours = episode.success and len(entry.turns or ()) == task.n_turns
    item = Item(task.id, task.category, ours, official, None)
    return Item(task.id, task.category, ours, official, _cause(task, entry, episode, item)) if item.differs else item


def _cause(task: Task, entry: Entry, episode: Episode, item: Item) -> str | None:
    if not item.official.reached:
        return NO_VERDICT
    if episode.stop is not StopReason.FINISHED and len(episode.turns) == task.n_turns:
        return LAST_TURN
    read = [[calls for message in turn if (calls := our_reading(message))] for turn in entry.turns or ()]
    if _strings(read) != _official_expressions(entry):
        return READ_DIFFERENTLY
    return verify.departure(task, read, episode)


def _strings(turns: Sequence[Sequence[Sequence[ToolCall]]]) -> list[list[list[str]]]:
    return [[[call_string(call) for call in step] for step in turn] for turn in turns]
