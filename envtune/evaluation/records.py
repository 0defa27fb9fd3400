"""The file of an evaluation: one header line, then one line per task, in task order.

In: the identity of an evaluation (`Header`) and its rows. Out: a JSONL that only grows. Each line is on the disk before
the next is begun. There are no time stamps, so a run that was killed and resumed leaves the same bytes as one that was
not. A kill may leave a last line without its newline, which is dropped. Anything else that does not belong is an error:
a line is accepted only if it is, byte for byte, what this version writes for its episode.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from io import FileIO
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from filelock import Timeout
from pydantic import Field, TypeAdapter, ValidationError

from envtune import locks, rewards
from envtune.chat import unusable
from envtune.differences import brief, differences
from envtune.display import episode_view, shown
from envtune.types import JSON, Category, Episode, Unusable

MOST_TOLD = 3
"""Differences that a refusal names."""
SCHEMA = 1
"""Version of the format. It grows when a line changes its meaning."""


@dataclass(frozen=True, slots=True)
class Header:
    """The identity of an evaluation. Files with equal headers hold comparable rows."""

    schema_version: int
    config: JSON
    """Policy name and settings, protocol, versions of data and code, number and hash of the tasks."""
    config_hash: str
    """SHA-256 of `config`."""


_IF_ANY = Field(exclude_if=lambda counts: not counts)
"""A count of nothing is not written."""


@shown(lambda row: episode_view(row.episode))
@dataclass(frozen=True, slots=True)
class Row:
    """One task's outcome. Other fields are computed from `episode`, for readers without this package."""

    task_id: str
    category: Category
    success: bool
    strict_success: bool
    progress: float
    correct_turns: int
    n_turns: int
    """User turns of the task."""
    played_turns: int
    """User turns that were begun."""
    steps: int
    calls: int
    failed_calls: int
    format_errors: int
    """Steps that could not be parsed."""
    guarded_calls: int
    episode: Episode
    unusable: Annotated[dict[Unusable, int], _IF_ANY] = field(default_factory=dict)
    """Messages that could not be used, by kind."""
    notes: Annotated[dict[str, int], _IF_ANY] = field(default_factory=dict)
    """Messages that a policy noted something about (`policy.base.Chat.notes`). The one field that the episode does not
    decide."""

    @property
    def rare(self) -> dict[str, int]:
        """`unusable` and `notes` together."""
        return {**{str(kind): n for kind, n in self.unusable.items()}, **self.notes}


def make_header(config: JSON) -> Header:
    """The header of an evaluation with this configuration."""
    text = json.dumps(config, sort_keys=True, allow_nan=False)
    return Header(SCHEMA, json.loads(text), hashlib.sha256(text.encode()).hexdigest())


def make_row(episode: Episode, notes: Mapping[str, int] = MappingProxyType({})) -> Row:
    """The row of an episode.

    Args:
        episode: as it was played.
        notes: of the policy, see `Row.notes`.
    """
    counts = episode.counts
    kinds = Counter(kind for step in episode.steps if (kind := unusable(step.text)))
    return Row(
        task_id=episode.task_id,
        category=episode.category,
        success=episode.success,
        strict_success=episode.strict_success,
        progress=rewards.progress(episode),
        correct_turns=sum(turn.correct for turn in episode.turns),
        n_turns=episode.n_turns,
        played_turns=len(episode.turns),
        steps=counts.steps,
        calls=counts.calls,
        failed_calls=counts.failed_calls,
        format_errors=counts.format_errors,
        guarded_calls=counts.guarded_calls,
        episode=episode,
        unusable={kind: kinds[kind] for kind in Unusable if kinds[kind]},
        notes=dict(sorted(notes.items())),
    )


def read(path: Path) -> tuple[Header, list[Row]]:
    """A finished or unfinished file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no header, or a line that does not belong. The message names file, line and the way out.
    """
    header, rows, _ = _parse(path, path.read_bytes())
    if header is None:
        raise ValueError(f"{path}: no complete header line. Run the evaluation again")
    return header, rows


@contextmanager
def writer(path: Path, header: Header, task_ids: Sequence[str]) -> Iterator[Writer]:
    """Open `path` to begin or resume the evaluation that `header` describes.

    A torn last line is cut off. A header without a finished task is replaced. While the file is open, no other process
    can open it for writing.

    Raises:
        ValueError: the file belongs to another evaluation or another process, or holds a line that does not belong. It
            is a device or a folder.
        OSError: the file cannot be written. What is there stays.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file, so nothing could go on from it. Give another path")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file, ExitStack() as stack:
        try:
            stack.enter_context(locks.alone_with(path, file.fileno()))
        except Timeout:
            raise ValueError(f"{path} is being written by another process. Wait for it, or give another path") from None
        yield Writer(path, file, header, task_ids)


class Writer:
    """Appends lines to one open file. `rows` are the rows already there."""

    def __init__(self, path: Path, file: FileIO, header: Header, task_ids: Sequence[str]) -> None:
        self._path, self._file = path, file
        file.seek(0)
        content = file.read()
        found, self.rows, torn = _parse(path, content)
        if found != header and found is not None and not self.rows:
            found, content, torn = None, b"", b""  # it failed before its first episode, say by a mistyped option
        first = _line(header)
        if found is None and not first.startswith(torn):
            raise ValueError(f"{path}, line 1: not the start of an evaluation. {_WAY_OUT}")
        if found is not None:
            _check_header(path, found, header)
            _check_order(path, self.rows, task_ids, torn)
        file.truncate(len(content) - len(torn))
        if found is None:
            self._append(first)
            _sync_folder(path.parent)

    def append(self, row: Row) -> None:
        """Write one row. When this returns, it is on the disk."""
        self._append(_line(row))
        self.rows.append(row)

    def _append(self, line: bytes) -> None:
        try:
            while line:  # a nearly full disk takes a part
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}, so the rows so far were kept", str(self._path)) from None


_WAY_OUT = "Give another path, or delete the file to start again"


def _line(record: Header | Row) -> bytes:
    adapter: TypeAdapter[Header] | TypeAdapter[Row] = _headers() if isinstance(record, Header) else _rows()
    return adapter.dump_json(record) + b"\n"  # type: ignore[arg-type]


@cache
def _headers() -> TypeAdapter[Header]:
    return TypeAdapter(Header)


@cache
def _rows() -> TypeAdapter[Row]:
    return TypeAdapter(Row)


def _parse(path: Path, content: bytes) -> tuple[Header | None, list[Row], bytes]:
    """Header, rows and the torn last line of a file's content."""
    *lines, torn = content.split(b"\n")
    if not lines:
        return None, [], torn
    return _parse_header(path, lines[0]), [_parse_row(path, i, line) for i, line in enumerate(lines[1:], 2)], torn


def _parse_header(path: Path, line: bytes) -> Header:
    try:
        header = _headers().validate_json(line)
    except ValidationError as error:
        raise ValueError(f"{path}, line 1: not the header of an evaluation ({_reason(error)}). {_WAY_OUT}") from error
    if header.schema_version != SCHEMA:
        raise ValueError(
            f"{path}, line 1: written in format {header.schema_version}, this version reads {SCHEMA}. {_WAY_OUT}"
        )
    if _line(make_header(header.config)) != line + b"\n":
        raise ValueError(f"{path}, line 1: config_hash is not the hash of config. {_WAY_OUT}")
    return header


def _parse_row(path: Path, number: int, line: bytes) -> Row:
    where = f"{path}, line {number}"
    try:
        row = _rows().validate_json(line)
    except ValidationError as error:
        raise ValueError(f"{where}: not a task's line ({_reason(error)}). {_WAY_OUT}") from error
    again = make_row(row.episode, row.notes)
    if line + b"\n" not in (_line(again), _line(replace(again, unusable={}))):  # older files do not hold `unusable`
        raise ValueError(f"{where}: does not match its episode (task {row.task_id}), so it was edited. {_WAY_OUT}")
    return row


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {first['msg']}" if field else first["msg"]


def _check_header(path: Path, found: Header, wanted: Header) -> None:
    if found == wanted:
        return
    differ = list(differences(found.config, wanted.config))
    told = [f"{where} is {brief(was)} there and {brief(now)} here" for where, was, now in differ if where != "code"]
    if len(told) > MOST_TOLD:
        told[MOST_TOLD:] = [f"{len(told) - MOST_TOLD} more settings"]
    told += [f"made by other code ({brief(was)}, now {brief(now)})" for where, was, now in differ if where == "code"]
    raise ValueError(f"{path} holds another evaluation: {'; '.join(told)}. {_WAY_OUT}")


def _check_order(path: Path, rows: Sequence[Row], task_ids: Sequence[str], torn: bytes) -> None:
    for number, row in enumerate(rows, 2):
        expected = task_ids[number - 2] if number - 2 < len(task_ids) else None
        if row.task_id != expected:
            wanted = f"task {expected}" if expected else "the end of the file"
            raise ValueError(f"{path}, line {number}: task {row.task_id} where {wanted} belongs. {_WAY_OUT}")
    if torn:
        number = len(rows) + 2
        start = f'{{"task_id":"{task_ids[len(rows)]}",'.encode() if len(rows) < len(task_ids) else b""
        if torn[: len(start)] != start[: len(torn)] or not start:
            raise ValueError(f"{path}, line {number}: not the start of a task's line. {_WAY_OUT}")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
