"""A search for calls that get past the guards: `python -m envtune.studies.fuzz --calls 200000`.

In: a number of calls and a seed. Out: a `Fuzzed` report: calls tried, hangs, crashes, worst time and worst memory of
one call. Episodes of up to 400 hostile calls run on all eight simulators at once (128 tools). So state grows, and the
calls meet what earlier ones left behind: wrong types, huge numbers and texts, deep nesting, cycles, copies of copies,
results written back. They run in child processes with limited memory. A parent counts those that hang or die.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from envtune.data.bfcl import load
from envtune.environment.guards import ExceededError, measure
from envtune.environment.simulator import Simulators
from envtune.processes import limit_memory
from envtune.studies.hostile import Writer, all_simulators
from envtune.types import JSON, Task, ToolCall

SECONDS, MEGABYTES = 1.0, 200.0
"""Limits for one call: processor time, in which other work on the machine does not count, and memory."""
MAX_CALLS = 400
"""Longest episode."""
CHUNK = 20_000
"""Calls of one child process."""
ADDRESS_SPACE = 3 << 30
"""Bytes that a child process may map (Linux)."""


@dataclass
class Fuzzed:
    """The findings of a search. `hangs`, `crashes` and `failures` should be empty."""

    calls: int = 0
    episodes: int = 0
    errors: int = 0
    guarded: int = 0
    tools: set[str] = field(default_factory=set)
    hangs: int = 0
    crashes: int = 0
    worst_seconds: float = 0.0
    slowest: str = ""
    worst_megabytes: float = 0.0
    """Growth of the process's peak during one call."""
    largest: str = ""
    failures: list[str] = field(default_factory=list)
    """Calls that raised, gave no text, or exceeded `SECONDS` or `MEGABYTES`."""

    @property
    def ok(self) -> bool:
        """Whether nothing got past the guards."""
        return not (self.hangs or self.crashes or self.failures)

    def add(self, other: Fuzzed) -> None:
        """Add the counts of another search."""
        for name in ("calls", "episodes", "errors", "guarded", "hangs", "crashes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.worst_seconds > self.worst_seconds:
            self.worst_seconds, self.slowest = other.worst_seconds, other.slowest
        if other.worst_megabytes > self.worst_megabytes:
            self.worst_megabytes, self.largest = other.worst_megabytes, other.largest
        self.tools |= other.tools
        self.failures += other.failures

    def summary(self) -> JSON:
        """The numbers, for a record of the run."""
        return {
            "calls": self.calls,
            "episodes": self.episodes,
            "tools": len(self.tools),
            "errors": self.errors,
            "guarded": self.guarded,
            "hangs": self.hangs,
            "crashes": self.crashes,
            "worst seconds": round(self.worst_seconds, 3),
            "slowest": self.slowest,
            "worst megabytes": round(self.worst_megabytes, 1),
            "largest": self.largest,
            "failures": self.failures[:20],
        }


def fuzz(calls: int = CHUNK, seed: int = 0, tasks: Sequence[Task] | None = None) -> Fuzzed:
    """Try at least `calls` hostile calls in child processes, `CHUNK` at a time.

    Args:
        calls: how many.
        seed: of the search. Chunk `i` uses `seed + i`.
        tasks: source of scenarios and plausible arguments. Default: the benchmark.
    """
    tasks = tasks or load()
    report = Fuzzed()
    while report.calls < calls and report.hangs + report.crashes < 10:
        report.add(_in_child(tasks, min(CHUNK, calls - report.calls), seed))
        seed += 1
    return report


def _in_child(tasks: Sequence[Task], calls: int, seed: int) -> Fuzzed:
    context = multiprocessing.get_context("spawn")  # a fork inherits what its parent maps: with torch, gigabytes
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_limited, args=(tasks, calls, seed, sender))
    child.start()
    sender.close()
    try:
        if receiver.poll(60 + calls * 0.05):
            return receiver.recv()
        child.kill()
        return Fuzzed(calls=calls, hangs=1, failures=[f"seed {seed} hangs"])
    except EOFError:
        return Fuzzed(calls=calls, crashes=1, failures=[f"seed {seed} ends its process"])
    finally:
        child.join()


def _limited(tasks: Sequence[Task], calls: int, seed: int, sender: Any) -> None:
    limit_memory(ADDRESS_SPACE)
    sender.send(search(tasks, calls, seed))
    sender.close()


def search(tasks: Sequence[Task], calls: int, seed: int) -> Fuzzed:
    """The search itself, in this process."""
    rng = random.Random(seed)
    report = Fuzzed()
    writer = Writer(tasks, rng)
    while report.calls < calls:
        task = all_simulators(tasks, rng)
        simulators = Simulators(task)
        report.episodes += 1
        last = ""
        for call in writer.calls(rng.randint(1, MAX_CALLS), task):
            last = _try(simulators, writer.informed(call, last), report)
    return report


def _try(simulators: Simulators, call: ToolCall, report: Fuzzed) -> str:
    report.calls += 1
    report.tools.add(call.name)
    peak, began = _peak(), time.thread_time()
    try:
        result = simulators.call(call)
    except BaseException as error:  # noqa: BLE001  what a call must never do
        report.failures.append(f"{_short(call)} raises {error!r}"[:300])
        return ""
    seconds, megabytes = time.thread_time() - began, _peak() - peak
    report.errors += result.error
    report.guarded += result.guarded
    if seconds > report.worst_seconds:
        report.worst_seconds, report.slowest = seconds, _short(call)
    if megabytes > report.worst_megabytes:
        report.worst_megabytes, report.largest = megabytes, _short(call)
    if seconds > SECONDS or megabytes > MEGABYTES or type(result.text) is not str:
        report.failures.append(f"{_short(call)} takes {seconds:.2f} s, {megabytes:.0f} MB, gives {type(result.text)}")
    return result.text


def _peak() -> float:
    """Largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def _short(call: ToolCall) -> str:
    try:
        measure(call.arguments)
        return f"{call.name[:60]}({json.dumps(call.arguments)[:120]})"
    except ExceededError:
        return f"{call.name[:60]}(...)"


def main() -> int:
    """Run a search and print its numbers. The exit code is 1 if a call got past the guards."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report = fuzz(options.calls, options.seed)
    print(json.dumps(report.summary(), indent=1))
    return 0 if report.ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
