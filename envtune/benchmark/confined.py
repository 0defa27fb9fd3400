"""The official runner in its own process, with limits, because it evaluates what a model wrote.

In: a task and what a result file holds for it. Out: what the model's official handler read in the messages, and the
official runner's verdict. If either takes too long or too much memory, or the process dies, the verdict is
`official.UNFINISHED`, and the next one gets a new process. That process can write no file, start no program and make
no connection. This stops accidents and the known tricks. It does not stop a determined attacker: rescore files of
unknown origin in a container.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from envtune import processes
from envtune.benchmark import official
from envtune.benchmark.handlers import (
    Expressions,
    OfficialRunner,
    Result,
    StandInUsedError,
    UnknownHandlerError,
    read_call,
)
from envtune.benchmark.official import UNFINISHED, Verdict
from envtune.types import Task, ToolCall

SECONDS = 30.0
"""For one reading, and for one verdict."""
MEMORY_MB = 1024
"""On top of what the process needs before the first verdict."""
START_SECONDS = 120.0
"""For the process to get ready."""
ANSWER_BYTES = 1 << 26
"""Longest answer that is taken from the process."""
EXPORTED = "Qwen/Qwen3-8B-FC"
"""A model of the official registry whose messages have the format of this project: `<tool_call>` text."""
ENVIRONMENT = {"TZ": "UTC", "GOOGLE_API_KEY": "unused"}
"""All of the process's environment. `GeminiHandler` refuses to be made without a key."""
START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from envtune.benchmark import confined; confined.serve()"
)
"""What the process runs. It does not import the caller's main module, which may have no main guard."""

Turns = list[list[list[ToolCall]]]
"""Turns of steps of calls."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the official runner makes of one line of a result file."""

    verdict: Verdict
    expressions: Expressions
    """What the official executor evaluates, by turn and step."""
    calls: Turns
    """The same as calls. Expressions that are no plain calls are left out."""
    exact: bool
    """Whether the calls say all that the expressions say."""


class _LostError(Exception):
    """The process is gone, or too slow."""


class Runner:
    """The official runner with one model's handler, in a process that starts with the first use. A context manager."""

    def __init__(self, names: Sequence[str] = (EXPORTED,), seconds: float | None = None, memory_mb: int = MEMORY_MB):
        """Start nothing yet.

        Args:
            names: the first of them that is in the official registry decides the handler.
            seconds: limit of one reading and of one verdict.
            memory_mb: limit of the process, on top of what it needs at its start.
        """
        self._names, self._memory_mb = list(names), memory_mb
        self._seconds = SECONDS if seconds is None else seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> str:
        """The name of the chosen model in the official registry.

        Raises:
            ValueError: none of the names is there, or its handler cannot be loaded.
            ChildProcessError: the process does not start.
        """
        self._connect()
        try:
            ready = self._receive(START_SECONDS)
        except _LostError as lost:
            self.close()
            raise ChildProcessError(f"the process of the official runner did not start: {lost}. Try again") from None
        if "refused" in ready:
            self.close()
            raise ValueError(str(ready["refused"]))
        if "failed" in ready:
            self.close()
            raise ChildProcessError(
                f"the process of the official runner failed at its start ({ready['failed']}). "
                "`envtune doctor` checks the installation"
            )
        return str(ready["name"])

    def judge(self, task: Task, result: Result) -> Judged:
        """What the handler reads in a result, and the official verdict on it.

        Raises:
            ValueError: the handler needs a package that is not loaded.
            ValueError, ChildProcessError: as `start`.
        """
        if self._process is None:
            self.start()
        reading: dict[str, Any] = {"expressions": [], "calls": [], "exact": False}
        try:
            self._send((task, result))
            reading = self._receive(self._seconds)
            if "refused" in reading:
                raise ValueError(str(reading["refused"]))
            verdict = Verdict(**self._receive(self._seconds))
        except _LostError as lost:
            self.close()
            verdict = Verdict(False, f"{UNFINISHED} {lost}")
        calls = [[[ToolCall(*call) for call in step] for step in turn] for turn in reading["calls"]]
        return Judged(verdict, reading["expressions"], calls, reading["exact"])

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._connection.close()
            self._process = None

    def _connect(self) -> None:
        mine, theirs = socket.socketpair()
        with theirs:
            arguments = [
                json.dumps(list(map(str, sys.path))),
                str(theirs.fileno()),
                str(self._memory_mb),
                json.dumps(self._names),
            ]
            self._process = subprocess.Popen(
                [sys.executable, "-c", START, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._connection = Connection(mine.detach())

    def _send(self, request: tuple[Task, Result]) -> None:
        try:
            self._connection.send(request)
        except OSError:
            raise _LostError("its process died") from None

    def _receive(self, seconds: float) -> dict[str, Any]:
        """The next answer, sent as JSON because a pickle from that process could run code here."""
        if not self._connection.poll(seconds):
            raise _LostError(f"no answer within {seconds:g} s")
        try:
            return dict(json.loads(self._connection.recv_bytes(ANSWER_BYTES)))
        except (EOFError, OSError, ValueError, TypeError, RecursionError):
            raise _LostError("its process died") from None


def serve() -> None:
    """Answer the requests of `Runner`. The arguments of the process: path, file descriptor, megabytes, names."""
    processes.end_with_parent()
    connection = Connection(int(sys.argv[2]))
    try:
        runner = OfficialRunner()
        official.load_simulators()
        _confine(int(sys.argv[3]))
        runner.choose(json.loads(sys.argv[4]))
    except UnknownHandlerError as error:
        return _answer(connection, {"refused": str(error)})
    except Exception as error:  # noqa: BLE001  told to the parent
        return _answer(connection, {"failed": f"{type(error).__name__}: {error}"})
    try:
        _answer(connection, {"name": runner.name})
        while True:
            task, result = connection.recv()
            _answer(connection, _read(runner, result))
            _answer(connection, asdict(_check(runner, task, result)))
    except EOFError:
        return None
    except StandInUsedError as error:
        return _answer(
            connection, {"refused": f"the official handler of {runner.name} needs {error} to read a message"}
        )


def _answer(connection: Connection, answer: dict[str, Any]) -> None:
    connection.send_bytes(json.dumps(answer).encode())


def _read(runner: OfficialRunner, result: Result) -> dict[str, Any]:
    expressions = runner.expressions(result)
    found = [[[read_call(text) for text in step] for step in turn] for turn in expressions]
    return {
        "expressions": expressions,
        "calls": [[[(c.name, c.arguments) for c, _ in step if c] for step in turn] for turn in found],
        "exact": all(same for turn in found for step in turn for _, same in step),
    }


def _check(runner: OfficialRunner, task: Task, result: Result) -> Verdict:
    try:
        return runner.verdict(task, result)
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
    os.environ.update(ENVIRONMENT)
    processes.limit_memory(_address_space() + memory_mb * 2**20)
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
