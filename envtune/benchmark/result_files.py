"""The benchmark's own result files: written from episodes, and read whatever program wrote them.

A file `BFCL_v4_multi_turn_<category>_result.json` under `<model>/multi_turn/` holds one JSON object per line: the `id`
and, under `result`, a list of turns of messages (`base_handler.py`, `write`). Version 3 put the file under `<model>/`.
A message is text or any JSON. The official handler of the model decides which calls it holds (see `confined`). Where
the runner failed, `result` is the text of its error. `inference_log` holds what the tools returned.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bfcl_eval.constants.category_mapping import VERSION_PREFIX

from envtune.chat import CUT_OFF
from envtune.data.splits import split_of
from envtune.types import Category, Episode, Task, id_number

NAME = re.compile(r"(BFCL_v\d+)_multi_turn_\w+_result\.json")
"""Of a result file of the multi-turn tasks. The group is the version of the benchmark."""

_SET = re.compile(r"\{'[^{}:]*'\}")
_SPACE = re.compile(r"\s*")
HALF = "not complete JSON (half a result file?). Generate this entry again"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a result file."""

    task_id: str
    turns: tuple[tuple[Any, ...], ...] | None
    """Messages by turn. None where the runner itself failed."""
    error: str = ""
    """What the runner wrote where it failed."""
    file: Path | None = field(default=None, compare=False)
    observed: bytes | None = field(default=None, compare=False)
    """`digest` of what the tools returned to the model. None if the line does not say it."""

    @property
    def result(self) -> str | list[list[Any]]:
        """As in the file, under `result`."""
        return self.error if self.turns is None else [list(turn) for turn in self.turns]


@dataclass(frozen=True)
class Results:
    """The entries of one model."""

    entries: list[Entry]
    files: list[Path]
    folders: list[str]
    """Names of the folders that hold the files, the nearest first. One of them is the model's."""
    other_version: str | None
    """Version in the files' names, if it is not that of the installed benchmark."""
    unknown: list[str]
    """Instances that another version had. They are left out."""


def entry_of(episode: Episode) -> Entry:
    """The entry that the official runner would have written for an episode: messages without their reasoning."""
    return Entry(episode.task_id, tuple(tuple(_said(step.text) for step in turn.steps) for turn in episode.turns))


def write_results(folder: Path | str, model: str, episodes: Iterable[Episode]) -> list[Path]:
    """Write the result files of a run, one per category, in the order and under the names of the official runner.

    Args:
        folder: the runner's `result` folder. A file already there is replaced.
        model: the official registry's name of the model, such as `Qwen/Qwen3-4B-Instruct-2507-FC`: `bfcl evaluate`
            takes the handler from it.
        episodes: at most one per instance.
    """
    lines: dict[Category, dict[int, str]] = {}
    for episode in episodes:
        entry = entry_of(episode)
        number = id_number(entry.task_id)
        lines.setdefault(episode.category, {})[number] = json.dumps({"id": entry.task_id, "result": entry.turns})
    paths = []
    for category, by_number in lines.items():
        path = Path(folder) / model.replace("/", "_") / "multi_turn" / file_name(category)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{by_number[number]}\n" for number in sorted(by_number)), encoding="utf-8")
        paths.append(path)
    return paths


def file_name(category: str) -> str:
    """Name of a category's result file."""
    return f"{VERSION_PREFIX}_multi_turn_{category}_result.json"


def read_results(path: Path | str, tasks: Sequence[Task], partial: bool = False) -> Results:
    """The entries of a result file, or of all multi-turn result files of one model below a folder.

    Args:
        path: file or folder. Links to folders are followed.
        tasks: the benchmark's instances.
        partial: take files that do not hold a whole split.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: files of two models or two versions, a line that is not an entry, an instance that is unknown or
            there twice, or, without `partial`, categories that do not hold a whole split, as a killed run leaves them.
    """
    path = Path(path)
    files = _files(path)
    _check_one_model(path, files)
    by_id = {task.id: task for task in tasks}
    found = [_entry(file, where, content) for file in files for where, content in _contents(file)]
    version = _version(files[0])
    other = None if version == VERSION_PREFIX else version
    unknown = [(entry, where) for entry, where in found if entry.task_id not in by_id]
    if unknown and (other is None or len(unknown) == len(found)):
        entry, where = unknown[0]
        raise ValueError(
            f"{where}: unknown instance {entry.task_id!r}. Known are the benchmark's {len(by_id)} multi-turn ones"
        )
    entries = [entry for entry, _ in found if entry.task_id in by_id]
    if not entries:
        raise ValueError(f"{path}: no entry in it. Generate the results again")
    _check_once(entries)
    if not partial:
        _check_whole(path, [by_id[entry.task_id] for entry in entries])
    return Results(entries, files, _folders(files[0]), other, [entry.task_id for entry, _ in unknown])


def digest(texts: Iterable[str]) -> bytes:
    """A short form of what tools returned in an episode: equal if the texts are, up to the order of sets in them.

    The simulators print sets ("Must be one of {...}"), and Python orders these differently in each process.
    """
    ordered = [_SET.sub(lambda found: ", ".join(sorted(found[0][1:-1].split(", "))), text) for text in texts]
    return hashlib.sha256(json.dumps(ordered).encode()).digest()


def _said(text: str) -> str:
    """The part of a message that the official handler keeps (`_parse_query_response_prompting`)."""
    text = text.removesuffix(CUT_OFF)
    return text.rpartition("</think>")[2].lstrip("\n") if "</think>" in text else text


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found: dict[Path, Path] = {}
    seen: set[Path] = set()
    for folder, below, names in os.walk(path, followlinks=True):
        if (real := Path(folder).resolve()) in seen:  # links may form a circle
            below.clear()
            continue
        seen.add(real)
        found |= {real / name: Path(folder) / name for name in names if NAME.fullmatch(name)}
    if not found:
        raise FileNotFoundError(f"no result file at {path}: give {file_name('CATEGORY')}, or a folder that holds some")
    return sorted(found.values())


def _check_one_model(path: Path, files: Sequence[Path]) -> None:
    for file in files[1:]:
        if _model_folder(file) != _model_folder(files[0]):
            raise ValueError(f"{path}: two models, in {files[0]} and in {file}. Give the folder of one")
        if _version(file) != _version(files[0]):
            raise ValueError(f"{path}: two versions of the benchmark, {files[0]} and {file}. Give the files of one")


def _model_folder(file: Path) -> Path:
    folder = file.absolute().parent
    return folder.parent if folder.name == "multi_turn" else folder


def _folders(file: Path) -> list[str]:
    folders = [_model_folder(file), _model_folder(file.resolve())]
    return [above.name for folder in folders for above in (folder, *folder.parents) if above.name]


def _version(file: Path) -> str:
    match = NAME.fullmatch(file.name)
    return match[1] if match else VERSION_PREFIX


def _contents(file: Path) -> Iterator[tuple[str, Any]]:
    """Place and content of each entry: one a line, as the runner writes them, or JSON laid out in another way."""
    first = True
    try:
        with file.open(encoding="utf-8-sig") as text:
            for number, line in enumerate(text, 1):
                if not line.strip():
                    continue
                content = _parsed(line, f"{file}, line {number}", first)
                if first and not isinstance(content, dict):
                    yield from _laid_out(file)
                    return
                first = False
                yield f"{file}, line {number}", content
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not text ({error.reason})") from None


def _parsed(line: str, where: str, first: bool) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        if first:  # JSON over several lines?
            return None
        raise ValueError(f"{where}: {HALF}") from None


def _laid_out(file: Path) -> Iterator[tuple[str, Any]]:
    """Entries in a list, or one after the other over several lines."""
    text = file.read_text(encoding="utf-8-sig").rstrip()
    decoder = json.JSONDecoder()
    position = number = 0
    while position < len(text):
        try:
            content, position = decoder.raw_decode(text, _SPACE.match(text, position).end())  # type: ignore[union-attr]
        except (ValueError, RecursionError):
            raise ValueError(f"{file}, entry {number + 1}: {HALF}") from None
        for item in content if isinstance(content, list) else [content]:
            number += 1
            yield f"{file}, entry {number}", item


def _entry(file: Path, where: str, content: Any) -> tuple[Entry, str]:
    try:
        task_id, result = content["id"], content["result"]
    except (KeyError, TypeError):
        raise ValueError(f'{where}: not an entry with "id" and "result"') from None
    if not isinstance(task_id, str):
        raise ValueError(f"{where}: unknown instance {task_id!r}. An id is text")
    if isinstance(result, str):
        return Entry(task_id, None, result, file), where
    if not isinstance(result, list) or not all(isinstance(turn, list) for turn in result):
        raise ValueError(f'{where}: "result" of {task_id} is not a list of turns')
    return Entry(task_id, tuple(map(tuple, result)), "", file, _observed(content.get("inference_log"))), where


def _observed(log: Any) -> bytes | None:
    """Digest of the tools' texts in the runner's log, which holds a state or a turn of steps in each place."""
    if not isinstance(log, list):
        return None
    steps = [step for turn in log if isinstance(turn, dict) for step in turn.values() if isinstance(step, list)]
    said = [message for step in steps for message in step if isinstance(message, dict)]
    return digest(str(message.get("content")) for message in said if message.get("role") == "tool")


def _check_once(entries: Sequence[Entry]) -> None:
    first: dict[str, Entry] = {}
    for entry in entries:
        if other := first.get(entry.task_id):
            raise ValueError(
                f"{entry.task_id} is in the files more than once, in {other.file} and in {entry.file}. "
                "Give the results of one run"
            )
        first[entry.task_id] = entry


def _check_whole(path: Path, tasks: Sequence[Task]) -> None:
    for category in Category:
        numbers = [task.number for task in tasks if task.category is category]
        if numbers and split_of(numbers) is None:
            raise ValueError(
                f"{path}: {len(numbers)} instances of {category}, which is no whole split (half a result file?). "
                "Generate the rest, or rescore what is there with --partial"
            )
