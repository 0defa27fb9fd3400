"""The benchmark's own result files: written from episodes, and read whatever program wrote them.

A file `BFCL_v4_multi_turn_<category>_result.json` under `<model>/multi_turn/` holds one JSON object per line: the `id`
and, under `result`, a list of turns of messages (`base_handler.py`, `write`). A message is text, or, from a handler
with native calls, a list of `{name: arguments}`. The handler, not the file, decides how it is read. Here text is read
as `qwen_fc.py` does it, and lists as `openai_completion.py` does. Files of handlers that prompt for Python expressions
(`[ls(a=True)]`) are refused, because nothing in them distinguishes such a call from an answer.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bfcl_eval.constants.category_mapping import VERSION_PREFIX

from envtune.chat import CUT_OFF, parse_reply, render_calls
from envtune.data.splits import split_of
from envtune.types import Category, Episode, Task, ToolCall, id_number

Message = str | list[dict[str, Any]]
"""A model's answer in one step: text, or native calls."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a result file."""

    task_id: str
    turns: tuple[tuple[Message, ...], ...] | None
    """None where the runner itself failed and wrote an error's text."""


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


def read_results(path: Path | str, tasks: Sequence[Task], partial: bool = False) -> list[Entry]:
    """The entries of a result file, or of all multi-turn result files below a folder.

    Args:
        path: file or folder.
        tasks: the benchmark's instances.
        partial: take files that do not hold a whole split.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: a line that is not an entry, an instance that is unknown or there twice, or, without `partial`,
            categories that do not hold a whole split, as a killed run leaves them.
    """
    path = Path(path)
    files = sorted(path.rglob(file_name("*"))) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise FileNotFoundError(f"no result file at {path}: give {file_name('CATEGORY')}, or a folder that holds some")
    by_id = {task.id: task for task in tasks}
    found = [_entry(f"{file}, line {i}", line, by_id) for file in files for i, line in enumerate(_lines(file), 1)]
    if not found:
        raise ValueError(f"{path}: no entry in it. Generate the results again")
    twice = [task_id for task_id, n in Counter(entry.task_id for entry in found).items() if n > 1]
    if twice:
        raise ValueError(f"{path}: {twice[0]} is there more than once. Give the results of one run")
    if not partial:
        _check_whole(path, [by_id[entry.task_id] for entry in found])
    if _prompted(found):
        raise ValueError(f"{path}: calls as Python expressions, from a prompting handler. Only native calls are read")
    return found


def official_reading(message: Message) -> list[str]:
    """The expressions that the official handler makes from a message. None where it reads no call."""
    try:
        calls = message if isinstance(message, list) else _tool_calls(message)
        return [
            f"{name}({','.join(f'{k}={v!r}' for k, v in _arguments(arguments).items())})"
            for call in calls
            for name, arguments in call.items()
        ]
    except Exception:  # noqa: BLE001  as the official runner: a message that cannot be decoded holds no call
        return []


def our_reading(message: Message) -> list[ToolCall]:
    """The calls that this project reads in a message."""
    if isinstance(message, list):  # arguments may be JSON text, which `parse_reply` takes as well
        message = render_calls([ToolCall(name, arguments) for call in message for name, arguments in call.items()])
    return list(parse_reply(message).calls)


def _tool_calls(text: str) -> list[dict[str, Any]]:
    found = []
    for block in re.findall(r"<tool_call>\n(.*?)\n</tool_call>", text, re.DOTALL):
        try:
            found.append(json.loads(block))
        except (ValueError, RecursionError):
            continue
    return [{item["name"]: item["arguments"]} for item in found]


def _arguments(arguments: Any) -> Mapping[str, Any]:
    return json.loads(arguments) if type(arguments) is str else arguments


def _said(text: str) -> str:
    """The part of a message that the official handler keeps (`_parse_query_response_prompting`)."""
    text = text.removesuffix(CUT_OFF)
    return text.rpartition("</think>")[2].lstrip("\n") if "</think>" in text else text


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not text ({error.reason})") from None
    return text.removesuffix("\n").split("\n") if text else []


def _entry(where: str, line: str, by_id: Mapping[str, Task]) -> Entry:
    try:
        content = json.loads(line)
        task_id, result = content["id"], content["result"]
    except (ValueError, RecursionError):
        raise ValueError(f"{where}: not complete JSON (half a result file?). Generate this entry again") from None
    except (KeyError, TypeError):
        raise ValueError(f'{where}: not an entry with "id" and "result"') from None
    if not isinstance(task_id, str) or task_id not in by_id:
        raise ValueError(
            f"{where}: unknown instance {task_id!r}. Known are the benchmark's {len(by_id)} multi-turn ones"
        )
    if isinstance(result, str):
        return Entry(task_id, None)
    if not isinstance(result, list) or not all(isinstance(turn, list) for turn in result):
        raise ValueError(f'{where}: "result" of {task_id} is not a list of turns')
    if not all(_is_message(message) for turn in result for message in turn):
        raise ValueError(f"{where}: {task_id} holds a message that is neither text nor a list of calls")
    return Entry(task_id, tuple(map(tuple, result)))


def _is_message(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(call, dict) for call in value))


def _check_whole(path: Path, tasks: Sequence[Task]) -> None:
    for category in Category:
        numbers = [task.number for task in tasks if task.category is category]
        if numbers and split_of(numbers) is None:
            raise ValueError(
                f"{path}: {len(numbers)} instances of {category}, which is no whole split (half a result file?); "
                "generate the rest, or rescore what is there with --partial"
            )


def _prompted(entries: Sequence[Entry]) -> bool:
    """Whether some message is a list of Python calls and none holds a tool call."""
    messages = [message for entry in entries for turn in entry.turns or () for message in turn]
    if any(official_reading(message) for message in messages):
        return False
    return any(isinstance(message, str) and _is_python_calls(message.strip("`\n ")) for message in messages)


def _is_python_calls(text: str) -> bool:
    try:
        body = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return isinstance(body, ast.List) and bool(body.elts) and all(isinstance(call, ast.Call) for call in body.elts)
