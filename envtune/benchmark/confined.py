"""The official checker in its own process, with limits, because it evaluates what a model wrote.

In: tasks and the expressions that the benchmark's handlers made from a model's messages. Out: one verdict each. If the
checker takes too long or too much memory, or its process dies, the verdict is `official.UNFINISHED`, and the next one
gets a new process. That process can write no file, start no program and make no connection. This stops accidents and
the known tricks. It does not stop a determined attacker: rescore files of unknown origin in a container.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from envtune.benchmark import official
from envtune.benchmark.official import UNFINISHED, Verdict
from envtune.types import Task

SECONDS = 30.0
"""For one verdict."""
MEMORY_MB = 1024
"""On top of what the process needs before the first verdict."""
START_SECONDS = 120.0
"""For the process to get ready."""

Expressions = Sequence[Sequence[Sequence[str]]]
"""Turns of steps of expressions such as `ls(a=True)`."""


def verdicts(
    work: Sequence[tuple[Task, Expressions]], seconds: float = SECONDS, memory_mb: int = MEMORY_MB
) -> Iterator[Verdict]:
    """The official verdict on each item, in order.

    Raises:
        ChildProcessError: the process does not start.
    """
    context = multiprocessing.get_context("spawn")
    done = 0
    while done < len(work):
        mine, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, work[done:], memory_mb), daemon=True)
        process.start()
        theirs.close()
        try:
            _await_start(mine)
            for _ in work[done:]:
                lost = not mine.poll(seconds)
                found = _receive(mine) if not lost else None
                done += 1
                yield found or Verdict(False, f"{UNFINISHED} {'too slow' if lost else 'its process died'}")
                if found is None:
                    break
        finally:
            process.kill()
            process.join()
            mine.close()


def _await_start(connection: Connection) -> None:
    if not connection.poll(START_SECONDS):
        raise ChildProcessError(f"the official checker did not start within {START_SECONDS:g} s. Try again")
    try:
        connection.recv_bytes()
    except EOFError:
        raise ChildProcessError(
            "the process of the official checker died at its start. `envtune doctor` checks the installation"
        ) from None


def _receive(connection: Connection) -> Verdict | None:
    """The next verdict, sent as JSON because a pickle from that process could run code here. None: it is gone."""
    try:
        return Verdict(**json.loads(connection.recv_bytes(1 << 16)))
    except (EOFError, OSError):
        return None


def _serve(connection: Connection, work: Sequence[tuple[Task, Expressions]], memory_mb: int) -> None:
    official.load_simulators()
    _confine(memory_mb)
    connection.send_bytes(b"ready")
    for task, expressions in work:
        connection.send_bytes(json.dumps(asdict(_check(task, expressions))).encode())


def _check(task: Task, expressions: Expressions) -> Verdict:
    try:
        return official.check(task, expressions)
    except MemoryError:
        return Verdict(False, f"{UNFINISHED} out of memory")
    except Exception as error:  # noqa: BLE001  whatever a model's text makes the checker do is data
        return Verdict(False, f"{UNFINISHED} the checker raised {type(error).__name__}")


def _confine(memory_mb: int) -> None:
    """From here on: little memory, no input or output, no environment, and no call that leaves the process."""
    empty = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(empty, stream)
    os.chdir("/")
    os.environ.clear()
    os.environ["TZ"] = "UTC"
    limit = _address_space() + memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.addaudithook(_deny)


REACHES_OUT = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.", "pty.", "signal.", "mmap.", "tempfile.")
"""Beginnings of the audit events of calls that leave the process."""


def _deny(event: str, arguments: tuple[Any, ...]) -> None:
    if event.startswith(REACHES_OUT) or (event == "open" and _writes(arguments)):
        _refuse(event)


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return bool(set(mode or "") & set("wax+")) or bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _refuse(event: str) -> NoReturn:
    raise PermissionError(f"{event} is not allowed here")


def _address_space() -> int:
    """Bytes of address space that this process uses."""
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123  one number
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # not Linux
        return 4 * 2**30
