"""Two verdicts on the same messages, from this project's checker and from the benchmark's own, and why they differ.

In: a result file of the benchmark, or a run that `evaluate` wrote. Out: a `Rescored`, one item per instance. The
official verdict is that of the official runner with the model's own handler. The calls that the handler reads in a
result file are replayed here without a step limit, as the official checker does. A run keeps the verdict it had when
it was played. A difference is explained by one of `CAUSES`, or it is a defect of one of the two checkers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from envtune.benchmark import verify
from envtune.benchmark.confined import EXPORTED, Judged, Runner, Turns
from envtune.benchmark.official import Verdict, call_string
from envtune.benchmark.result_files import Entry, Results, digest, entry_of, read_results
from envtune.chat import parse_reply
from envtune.data.audit import is_sound
from envtune.display import View, count, grid, shown, strong
from envtune.environment import replay
from envtune.evaluation.evaluate import load_result
from envtune.types import Category, Episode, StopReason, Task

READ_DIFFERENTLY = "read differently"
"""The two read different calls in a message. `chat` lists what is stricter here, and the official executor also
evaluates expressions that are not plain calls."""
LAST_TURN = "cut off in the last turn"
"""The official checker recognises a cut-off turn by a missing next turn, so it misses a cut-off last turn."""
NO_VERDICT = "no official verdict"
"""The official runner took too long, too much memory, or crashed."""
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
    error: str = ""
    """What the official runner wrote where it failed and no model answered."""
    read: bool = True
    """Whether any message holds a call."""
    unknown_tools: int = 0
    """Calls of tools that the simulators do not have."""
    too_long: bool = False
    """Whether the result holds more turns than the instance."""
    drifted: bool | None = None
    """Whether the tools return something else here than the file logs. None: the file has no log."""

    @property
    def differs(self) -> bool:
        """Whether the two verdicts differ, or the official checker gave none."""
        return self.ours != self.official.valid or not self.official.reached


def rescored_view(found: Rescored) -> View:
    """Both accuracies by category, the notes, and each difference."""
    facts = [strong(found.model or "a run"), count(len(found.items), "instance")]
    facts += [f"{len(found.differences())} differences, {len(found.unexplained)} unexplained"]
    notes = "".join(f"<p>{escape(note)}.</p>" for note in found.notes)
    tables = [found.readable(), *([differ] if len(differ := found.differences()) else [])]
    cells = [[["–" if pd.isna(cell) else str(cell) for cell in row] for row in frame.to_numpy()] for frame in tables]
    grids = [grid([str(name) for name in frame], rows) for frame, rows in zip(tables, cells, strict=True)]
    return View(facts, grids[0] + notes + "".join(grids[1:]))


@shown(rescored_view)
@dataclass(frozen=True)
class Rescored:
    """Both verdicts on every instance."""

    items: tuple[Item, ...]
    model: str | None = None
    """Of the official registry: its handler read the messages. None for a run of `evaluate`."""
    notes: tuple[str, ...] = ()
    """What a reader of the numbers must know: errors of the runner, other data, a handler that is a guess."""

    @property
    def unexplained(self) -> list[Item]:
        """Differences without a known cause."""
        return [item for item in self.items if item.differs and item.cause is None]

    def table(self, sound: bool = False) -> pd.DataFrame:
        """By category and in all: `n`, `ours` and `official` accuracy, `differences` and those `unexplained`.

        `official` is the accuracy where there is an official verdict, NaN if there is none at all. `runner errors`
        counts instances in which no model answered. With `sound` there is one more line of that name, over the sound
        instances (`data.audit`).
        """
        groups = {str(c): [item for item in self.items if item.category is c] for c in Category}
        totals = {"all": list(self.items)}
        if sound:
            totals["sound"] = [item for item in self.items if is_sound(item.task_id)]
        rows = {
            name: {
                "n": len(items),
                "ours": sum(item.ours for item in items) / len(items),
                "official": _official_accuracy(items),
                "runner errors": sum(bool(item.error) for item in items),
                "differences": sum(item.differs for item in items),
                "unexplained": sum(item.differs and item.cause is None for item in items),
            }
            for name, items in (groups | totals).items()
            if items
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("category")

    def readable(self, sound: bool = False) -> pd.DataFrame:
        """`table` with percentages as text, and the category as the first column."""
        found = self.table(sound).reset_index()
        for name in ("ours", "official"):
            found[name] = ["no verdict" if pd.isna(share) else f"{share:.1%}" for share in found[name]]
        return found

    def differences(self) -> pd.DataFrame:
        """One row per difference: `instance`, `ours`, `official`, `error_type`, `cause`."""
        rows = [
            (
                item.task_id,
                item.ours,
                item.official.valid if item.official.reached else None,
                item.official.error_type or "",
                item.cause or "unexplained",
            )
            for item in self.items
            if item.differs
        ]
        return pd.DataFrame(rows, columns=["instance", "ours", "official", "error_type", "cause"])


def rescore(path: Path | str, tasks: Sequence[Task], partial: bool = False, handler: str | None = None) -> Rescored:
    """Both verdicts on a result file, a folder of them, or the JSONL of an evaluation.

    Args:
        path: of the files of one model, or of a run.
        tasks: the benchmark's instances.
        partial: take files that do not hold a whole split.
        handler: the model of the official registry whose handler reads the messages. Default: the one that the files'
            folder names. Files in a folder of another name are read as `evaluate --export` writes them.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: see `result_files.read_results` and `load_result`. The official runner has no such handler or cannot
            load it. A file holds nothing but errors of the runner, or no message that reads as a call.
    """
    if is_run(path):
        return rescore_episodes(load_result(path).episodes, tasks)
    found = read_results(path, tasks, partial)
    by_id = {task.id: task for task in tasks}
    work = [(by_id[entry.task_id], entry) for entry in found.entries]
    with Runner([handler] if handler else [*found.folders, EXPORTED]) as runner:
        model = runner.start()
        guessed = not handler and model.replace("/", "_") not in found.folders and model not in found.folders
        items = tuple(_replayed(task, entry, judged) for task, entry, judged in _judged(runner, work))
    _check_read(found, items, model, guessed)
    return Rescored(items, model, tuple(_notes(found, items, guessed)))


def rescore_episodes(episodes: Sequence[Episode], tasks: Sequence[Task]) -> Rescored:
    """Both verdicts on episodes played here.

    Raises:
        ValueError: an episode of a task that is not among `tasks`.
    """
    by_id = {task.id: task for task in tasks}
    if unknown := [episode.task_id for episode in episodes if episode.task_id not in by_id]:
        raise ValueError(f"{unknown[0]} is not an instance of the benchmark, so it has no official verdict")
    work = [(by_id[episode.task_id], entry_of(episode)) for episode in episodes]
    with Runner() as runner:
        judged = _judged(runner, work)
        return Rescored(
            tuple(_of_run(task, episode, j) for (task, _, j), episode in zip(judged, episodes, strict=True))
        )


def is_run(path: Path | str) -> bool:
    """Whether this is a file that `evaluate` wrote."""
    if not Path(path).is_file():
        return False
    with Path(path).open("rb") as file:
        return file.read(18) == b'{"schema_version":'


def _judged(runner: Runner, work: Sequence[tuple[Task, Entry]]) -> Iterator[tuple[Task, Entry, Judged]]:
    for task, entry in tqdm(work, desc="official verdicts", delay=2):
        yield task, entry, runner.judge(task, entry.result)


def _replayed(task: Task, entry: Entry, judged: Judged) -> Item:
    """The calls that the handler read, played here."""
    episode = replay(task, judged.calls[: task.n_turns])
    whole = len(entry.turns or ()) == task.n_turns
    item = _item(task, episode, episode.success and whole, judged, judged.calls, judged.exact)
    return replace(
        item,
        error=entry.error,
        read=any(map(any, judged.calls)),
        unknown_tools=episode.counts.unknown_tools,
        too_long=len(entry.turns or ()) > task.n_turns,
        drifted=_drifted(task, entry, judged, episode),
    )


def _drifted(task: Task, entry: Entry, judged: Judged, episode: Episode) -> bool | None:
    if entry.observed is None or not judged.exact:
        return None
    if digest(result.text for step in episode.steps for result in step.results) == entry.observed:
        return False
    return None if verify.departure(task, judged.calls, episode) else True


def _of_run(task: Task, episode: Episode, judged: Judged) -> Item:
    turns = entry_of(episode).turns or ()
    read = [[calls for message in turn if (calls := list(parse_reply(message).calls))] for turn in turns]
    same = [[[call_string(call) for call in step] for step in turn] for turn in read] == judged.expressions
    return _item(task, episode, episode.success and len(turns) == task.n_turns, judged, read, same)


def _item(task: Task, episode: Episode, ours: bool, judged: Judged, read: Turns, same: bool) -> Item:
    item = Item(task.id, task.category, ours, judged.verdict, None)
    return replace(item, cause=_cause(task, episode, judged, read, same)) if item.differs else item


def _cause(task: Task, episode: Episode, judged: Judged, read: Turns, same: bool) -> str | None:
    if not judged.verdict.reached:
        return NO_VERDICT
    if episode.stop is not StopReason.FINISHED and len(episode.turns) == task.n_turns:
        return LAST_TURN
    return verify.departure(task, read, episode) if same else READ_DIFFERENTLY


def _official_accuracy(items: Sequence[Item]) -> float:
    reached = [item.official.valid for item in items if item.official.reached]
    return sum(reached) / len(reached) if reached else float("nan")


def _check_read(found: Results, items: Sequence[Item], model: str, guessed: bool) -> None:
    """Refuse a file that says nothing about a model: 0 % would be a false number."""
    for file in found.files:
        of_file = [item for item, entry in zip(items, found.entries, strict=True) if entry.file == file]
        if of_file and all(item.error for item in of_file):
            raise ValueError(
                f"{file}: all {len(of_file)} instances hold an error of the runner, such as {of_file[0].error[:80]!r}. "
                "Generate the results again"
            )
        if of_file and not any(item.read or not item.official.reached for item in of_file):
            raise ValueError(
                f"{file}: the official handler of {model} reads no call in any message, so a score would say nothing. "
                + (_GUESSED.format(found.folders[0]) if guessed else "`--handler MODEL` reads them as another model's")
            )


_GUESSED = (
    f"{{!r}} is not a model of the official registry, so the messages are read as those of {EXPORTED}, the format of "
    "`evaluate --export`. `--handler MODEL` reads them as another model's"
)


def _notes(found: Results, items: Sequence[Item], guessed: bool) -> Iterator[str]:
    if guessed:
        yield _GUESSED.format(found.folders[0])
    if failed := [item for item in items if item.error]:
        yield (
            f"{len(failed)} of {len(items)} instances hold an error of the runner, not an answer, such as "
            f"{failed[0].task_id}: {failed[0].error[:80]!r}. Both verdicts count them as failed"
        )
    if found.other_version:
        yield f"The files are of {found.other_version}. The verdicts are those of the data installed here"
        yield from _other_version(found, items)
    if drifted := [item for item in items if item.drifted]:
        same = [item for item in items if item.drifted is False]
        yield (
            f"In {len(drifted)} instances, such as {drifted[0].task_id}, the tools do not return what the files log, "
            "as after a change of the data or the simulators. Official accuracy in these: "
            f"{_official_accuracy(drifted):.1%}, in the {len(same)} where nothing changed: "
            f"{_official_accuracy(same):.1%}".replace("nan%", "none")
        )


def _other_version(found: Results, items: Sequence[Item]) -> Iterator[str]:
    """What another version had that the installed data do not have."""
    if found.unknown:
        yield f"{len(found.unknown)} instances, such as {found.unknown[0]}, are not in these data and are left out"
    if long := [item for item in items if item.too_long]:
        yield f"{len(long)} instances, such as {long[0].task_id}, hold more turns than these data, so they fail"
    if unknown := [item for item in items if item.unknown_tools]:
        calls = sum(item.unknown_tools for item in unknown)
        yield f"{calls} calls, such as in {unknown[0].task_id}, name a tool that these data do not have"
    if all(item.drifted is None for item in items):
        yield "The files do not log what the tools returned, so a change of the tools cannot be seen"
