"""A search for calls that get past the guards: `python -m envtune.evaluation.fuzz --calls 200000`.

In: a number of calls and a seed. Out: a `Fuzzed` report: calls tried, hangs, crashes, worst time and worst memory of
one call. Episodes of up to 400 hostile calls run on all eight simulators at once (128 tools), so that state grows and
the calls meet what earlier ones left behind: wrong types, huge numbers and texts, deep nesting, cycles, copies of
copies, results written back. They run in child processes with limited memory; a parent counts those that hang or die.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from envtune.data.bfcl import TOOL_DOCS, load
from envtune.environment.guards import ExceededError, measure
from envtune.environment.simulator import Simulators
from envtune.types import JSON, Category, Task, ToolCall

SECONDS, MEGABYTES = 1.0, 200.0
"""What one call may take."""
MAX_CALLS = 400
"""Longest episode."""
CHUNK = 20_000
"""Calls of one child process."""
ADDRESS_SPACE = 3 << 30


@dataclass
class Fuzzed:
    """What a search found; `hangs`, `crashes` and `failures` should be empty."""

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
        seed: of the search; chunk `i` uses `seed + i`.
        tasks: where scenarios and plausible arguments come from; default: the benchmark.
    """
    tasks = tasks or load()
    report = Fuzzed()
    while report.calls < calls and report.hangs + report.crashes < 10:
        report.add(_in_child(tasks, min(CHUNK, calls - report.calls), seed))
        seed += 1
    return report


def _in_child(tasks: Sequence[Task], calls: int, seed: int) -> Fuzzed:
    context = multiprocessing.get_context("fork")
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
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    sender.send(search(tasks, calls, seed))
    sender.close()


def search(tasks: Sequence[Task], calls: int, seed: int) -> Fuzzed:
    """The search itself, in this process."""
    rng = random.Random(seed)
    report = Fuzzed()
    writer = Writer(tasks, rng)
    while report.calls < calls:
        simulators = Simulators(all_simulators(tasks, rng))
        report.episodes += 1
        last = ""
        for call in writer.calls(rng.randint(1, min(MAX_CALLS, calls - report.calls))):
            last = _try(simulators, writer.informed(call, last), report)
    return report


def _try(simulators: Simulators, call: ToolCall, report: Fuzzed) -> str:
    report.calls += 1
    report.tools.add(call.name)
    peak, began = _peak(), time.perf_counter()
    try:
        result = simulators.call(call)
    except BaseException as error:  # noqa: BLE001  what a call must never do
        report.failures.append(f"{_short(call)} raises {error!r}"[:300])
        return ""
    seconds, megabytes = time.perf_counter() - began, _peak() - peak
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
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _short(call: ToolCall) -> str:
    try:
        measure(call.arguments)
        return f"{call.name[:60]}({json.dumps(call.arguments)[:120]})"
    except ExceededError:
        return f"{call.name[:60]}(...)"


def all_simulators(tasks: Sequence[Task], rng: random.Random) -> Task:
    """A task that involves all eight simulators, each with the scenario of some task that has it."""
    config = {}
    for cls in TOOL_DOCS:
        donors = [task for task in tasks if cls in task.initial_config]
        config[cls] = rng.choice(donors).initial_config[cls] if donors else {}
    category = rng.choice((Category.BASE, Category.LONG_CONTEXT))
    return Task("fuzz_0", category, tuple(TOOL_DOCS), config, ("",), ((),), ())


class Writer:
    """Writes hostile calls: plausible ones with some arguments replaced, and runs of calls that make state grow."""

    def __init__(self, tasks: Sequence[Task], rng: random.Random) -> None:
        self.rng = rng
        self.plausible: dict[tuple[str, str], list[Any]] = {}
        for task in tasks:
            for call in (call for turn in task.ground_truth for call in turn):
                for name, value in call.arguments.items():
                    self.plausible.setdefault((call.name, name), []).append(value)
        everything = replace(tasks[0], involved_classes=tuple(TOOL_DOCS), initial_config={})
        self.parameters = {name: sorted(tool.parameters) for name, tool in Simulators(everything).tools.items()}
        self.names = sorted(self.parameters)

    def calls(self, n: int) -> Iterator[ToolCall]:
        """`n` calls of one episode."""
        for call in (ToolCall("message_login", {"user_id": "USR001"}), ToolCall("trading_login", _LOGIN)):
            yield call
        while n > 0:
            run = self._growth() if self.rng.random() < 0.15 else [self._call(self.rng.choice(self.names))]
            for call in run[:n]:
                yield call
            n -= len(run)

    def informed(self, call: ToolCall, last: str) -> ToolCall:
        """Sometimes the last result comes back as an argument: what a tool prints, another may be made to keep."""
        if last and call.arguments and self.rng.random() < 0.1:
            name = self.rng.choice(list(call.arguments))
            return ToolCall(call.name, {**call.arguments, name: self.rng.choice((last, last + last, [last]))})
        return call

    def _call(self, tool: str) -> ToolCall:
        rng = self.rng
        arguments: JSON = {}
        for name in self.parameters[tool]:
            known = self.plausible.get((tool, name))
            if rng.random() < 0.1:
                continue
            arguments[name] = rng.choice(known) if known and rng.random() < 0.5 else self._value()
        if rng.random() < 0.02:
            arguments[rng.choice(("self", "x", "a b", "class", "", "ſ"))] = self._value()
        if rng.random() < 0.02:
            tool = rng.choice(("kill", "eval", "os.system", tool.upper(), *_NAMES))
        return ToolCall(tool, arguments)

    def _value(self) -> Any:
        rng = self.rng
        kind = rng.randrange(12)
        if kind < 4:
            return rng.choice(_SCALARS)
        if kind < 6:
            return rng.choice(_FILES)
        if kind == 6:
            return rng.choice("aé\U0001f600\n\x00 .;/,-") * int(10 ** rng.uniform(0, 5.3))
        if kind == 7:
            return rng.choice((1, -1)) * rng.randrange(10 ** rng.choice((1, 5, 20, 400, 4299, 4300, 9000)))
        if kind == 8:
            return rng.choice((1, -1)) * 10 ** rng.uniform(-300, 308)
        if kind == 9:
            return [self._value()] * int(10 ** rng.uniform(0, 2.5)) if rng.random() < 0.5 else list(_FILES)
        if kind == 10:
            return {rng.choice(_FILES): self._value() for _ in range(rng.randrange(4))}
        return rng.choice((_nested, _cycle, _shared, object, bytes))()

    def _growth(self) -> list[ToolCall]:
        rng = self.rng
        a, b = rng.choice(_FILES), rng.choice(_FILES)
        n = int(10 ** rng.uniform(0, 2.3))
        text = rng.choice(("x", "é", "\U0010ffff", "\n", "a b\n")) * int(10 ** rng.uniform(0, 5))
        move = rng.choice(("cp", "mv"))
        there = [ToolCall(move, {"source": a, "destination": b}), ToolCall("cp", {"source": b, "destination": a})]
        deeper = [ToolCall("mkdir", {"dir_name": a}), ToolCall("cd", {"folder": a})]
        look = [ToolCall(name, {}) for name in ("find", "du", "ls", "pwd", "get_user_tickets", "view_messages_sent")]
        ticket = ToolCall("create_ticket", {"title": text[:9]})
        one = rng.choice(
            (
                [ToolCall("mkdir", {"dir_name": a}), ToolCall("mkdir", {"dir_name": b}), *there],
                there,
                deeper,
                [*deeper, ToolCall("cd", {"folder": ".."}), *there],
                [ToolCall("touch", {"file_name": a}), ToolCall("echo", {"content": text, "file_name": a}), *there],
                [ToolCall("cat", {"file_name": a}), ToolCall("echo", {"content": text, "file_name": a})],
                [ToolCall("send_message", {"receiver_id": "USR002", "message": text})],
                [ToolCall("ticket_login", {"username": text, "password": "x"}), *[ticket] * 9],
                [ToolCall("post_tweet", {"content": text, "tags": [text], "mentions": []})],
                [ToolCall("mention", {"tweet_id": rng.randrange(9), "mentioned_usernames": text})],
                [ToolCall("search_tweets", {"keyword": text}), ToolCall("search_messages", {"keyword": text})],
                [ToolCall("power", {"base": 10, "exponent": n * 40}), ToolCall("find", {"path": "./" * n * 50})],
                [ToolCall("fund_account", {"amount": 10 ** (n * 20)}), ToolCall("withdraw_funds", {"amount": 10**n})],
                [ToolCall("add_contact", {"user_name": text}), ToolCall("follow_user", {"username_to_follow": [text]})],
            )
        )
        return [*(one * n), *look]


_LOGIN = {"username": "a", "password": "b"}
_FILES = ("a", "b", "c", ".", "..", "/", "temp", "document")
_NAMES = ("(" * 150, "-" * 190 + "x", "a" * 10**5, "é.", "1if", "'\\d'")
_SCALARS: tuple[Any, ...] = (None, True, False, 0, 1, -1, 7, 2.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"))
_SCALARS += ("", "x", "1e400", "1e" + "9" * 4000, "nan", "-inf")
_SCALARS += ("1/3", "9" * 4400, "2024-01-01", "%d", "{0}", "{symbol}", "\ud800", "²", "USR001", "AAPL", "driver")
_SCALARS += (10**10, -(10**10), 10**7, -(10**8), 10**4299, 10**5000)


def _nested() -> Any:
    value: Any = []
    for _ in range(70):
        value = [value]
    return value


def _cycle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def _shared() -> Any:
    value: list[Any] = []
    for _ in range(40):
        value = [value, value]
    return value


def main() -> int:
    """Run a search and print its numbers; exit code 1 if a call got past the guards."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report = fuzz(options.calls, options.seed)
    print(json.dumps(report.summary(), indent=1))
    return 0 if report.ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
