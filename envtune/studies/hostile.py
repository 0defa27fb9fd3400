"""Hostile calls for `studies.fuzz`: what a model could write, at its worst.

In: a random generator, and the last result. Out: `ToolCall`s for the eight simulators. Some are correct calls with one
argument replaced by a wrong type, a huge number or text, a nest or a cycle. Others are series of correct calls that
make state grow.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from envtune.data.bfcl import TOOL_DOCS, tool_documents
from envtune.environment.guards import GUARDS
from envtune.environment.simulator import Simulators
from envtune.types import JSON, Category, Task, ToolCall

_FILES = ("a", "b", "t", ".", "..", "/", "temp", "document")
_NAMES = ("(" * 150, "-" * 190 + "x", "a" * 10**5, "é.", "1if", "'\\d'", "kill", "eval", "os.system")
_EXTRA = ("self", "x", "a b", "class", "", "ſ")
_NUMBERS: tuple[Any, ...] = (0, 1, -1, 7, -0.0, 0.5, 1e308, -1e308, 5e-324, float("nan"), float("inf"), 10**400)
_NUMBERS += (10**5, 10**6, 10**7, 10**9, 10**10, -(10**5), -(10**8), -(10**10), 10**4299, -(10**4299), 10**5000)
_TEXTS: tuple[Any, ...] = ("", "x", "1e400", "1e" + "9" * 3900, "1e-" + "9" * 3900, "nan", "-inf", "1/3", "9" * 4400)
_TEXTS += ("10000000", "2024-01-01", "%d", "{0}", "{symbol}", "\ud800", "²", "USR001", "AAPL", "driver", "-", "1-9")
_TYPICAL = {"integer": 3, "float": 7, "number": 7, "boolean": True, "string": "a", "array": ["a"], "dict": {}}


def all_simulators(tasks: Sequence[Task], rng: random.Random) -> Task:
    """A task that involves all eight simulators, each with the scenario of some task that has it."""
    config = {}
    for cls in TOOL_DOCS:
        donors = [task for task in tasks if cls in task.initial_config]
        config[cls] = rng.choice(donors).initial_config[cls] if donors else {}
    category = rng.choice((Category.BASE, Category.LONG_CONTEXT))
    return Task("fuzz_0", category, tuple(TOOL_DOCS), config, ("",), ((),), ())


class Writer:
    """Writes the calls of episodes, one episode after the other."""

    def __init__(self, tasks: Sequence[Task], rng: random.Random) -> None:
        self.rng = rng
        self.token = "x"
        self.seen: dict[tuple[str, str], list[Any]] = {}
        for task in tasks:
            for call in (call for turn in task.ground_truth for call in turn):
                for name, value in call.arguments.items():
                    self.seen.setdefault((call.name, name), []).append(value)
        for document in (document for documents in tool_documents().values() for document in documents):
            for name, schema in document["parameters"]["properties"].items():
                self.seen.setdefault((document["name"], name), [_TYPICAL.get(schema["type"], "a")])
        everything = replace(tasks[0], involved_classes=tuple(TOOL_DOCS), initial_config={})
        self.parameters = {name: sorted(tool.parameters) for name, tool in Simulators(everything).tools.items()}
        self.names = sorted(self.parameters) + sorted(GUARDS) * 5

    def calls(self, n: int, task: Task) -> Iterator[ToolCall]:
        """`n` calls of one episode of `task`, after logging in everywhere."""
        yield from _logins(task)
        while n > 0:
            run = self._growth() if self.rng.random() < 0.005 else [self._call(self.rng.choice(self.names))]
            yield from run[:n]
            n -= len(run)

    def informed(self, call: ToolCall, last: str) -> ToolCall:
        """The call with the token from the last result, and sometimes the whole result as an argument."""
        if (found := re.match(r'{"expires_in": 2, "access_token": "(\d+)"', last)) is not None:
            self.token = found[1]
        arguments = dict(call.arguments)
        if arguments.get("access_token") is not None and self.rng.random() < 0.8:
            arguments["access_token"] = self.token
        if last and arguments and self.rng.random() < 0.05:
            arguments[self.rng.choice(list(arguments))] = self.rng.choice((last, last + last, [last]))
        return ToolCall(call.name, arguments)

    def _call(self, tool: str) -> ToolCall:
        rng = self.rng
        arguments: JSON = {name: rng.choice(self.seen.get((tool, name), ["a"])) for name in self.parameters[tool]}
        for name in list(arguments):
            if tool in _FILE_TOOLS and rng.random() < 0.5:
                arguments[name] = rng.choice(_FILES)
            if rng.random() < 0.6 / len(arguments):
                arguments[name] = self._value()
            if rng.random() < 0.02:
                del arguments[name]
        if rng.random() < 0.02:
            arguments[rng.choice(_EXTRA)] = self._value()
        return ToolCall(rng.choice((*_NAMES, tool.upper())) if rng.random() < 0.02 else tool, arguments)

    def _value(self) -> Any:
        rng = self.rng
        kind = rng.randrange(12)
        if kind < 4:
            return rng.choice(_NUMBERS)
        if kind < 6:
            return rng.choice(_TEXTS)
        if kind == 6:
            return rng.choice((None, True, False, [], {}, *_FILES))
        if kind == 7:
            return rng.choice(("a", "é", "\U0001f600", "\n", "\x00", " ", "./", ",", "9", "a-")) * self._size()
        if kind == 8:
            return rng.choice((1, -1)) * rng.randrange(10 ** rng.choice((1, 5, 20, 400, 4299, 9000)))
        if kind == 9:
            return [self._value()] * min(self._size(), 3000)
        if kind == 10:
            return {rng.choice((*_FILES, "title", "status")): self._value() for _ in range(rng.randrange(4))}
        return rng.choice((_nested, _cycle, _shared, object, bytes))()

    def _size(self) -> int:
        return int(10 ** self.rng.uniform(0, 5.1))

    def _growth(self) -> list[ToolCall]:
        """Some correct calls repeated many times, then calls that read the state."""
        rng = self.rng
        a, b = rng.choice(_FILES), rng.choice(_FILES)
        text = rng.choice(("x", "é", "\U0010ffff", "\n", "a b\n")) * self._size()
        runs: tuple[tuple[tuple[str, JSON], ...], ...] = (
            (_mkdir("a"), _cp("a", "b"), _mkdir("t"), _mv("a", "t"), _mv("b", "t"), _mv("t", "a"), ("du", {})),
            (_mkdir("a"), _mkdir("b"), _cp("a", "b"), _cp("b", "a"), ("find", {"path": "./" * rng.randrange(50)})),
            (_cp(a, b), _mv(b, a), _cp(b, a), _cp(a, "t")),
            (_mkdir(a), ("cd", {"folder": a})),
            (_mkdir(a), ("cd", {"folder": a}), ("cd", {"folder": ".."}), _cp(a, b), _mv(a, b)),
            (("touch", {"file_name": a}), ("echo", {"content": text, "file_name": a}), _cp(a, b), ("du", {})),
            (("cat", {"file_name": a}), ("echo", {"content": text, "file_name": a})),
            (("send_message", {"receiver_id": "USR002", "message": text}), ("search_messages", {"keyword": text[9:]})),
            (("ticket_login", {"username": text, "password": "x"}), *[("create_ticket", {"title": "x"})] * 9),
            (("post_tweet", {"content": text[:50], "tags": [text[:9]]}), ("search_tweets", {"keyword": text})),
            (("mention", {"tweet_id": rng.randrange(9), "mentioned_usernames": text}),),
            (("fund_account", {"amount": 10 ** rng.randrange(4300)}), ("withdraw_funds", {"amount": 10**9})),
            (("add_contact", {"user_name": text}), ("follow_user", {"username_to_follow": [text]})),
        )
        look = ("find", "du", "ls", "pwd", "get_user_tickets", "view_messages_sent", "list_all_following", "list_users")
        repeated = rng.choice(runs) * int(10 ** rng.uniform(0, 2.3))
        return [ToolCall(name, dict(arguments)) for name, arguments in (*repeated, *((name, {}) for name in look))]


def _logins(task: Task) -> list[ToolCall]:
    twitter, messages = task.initial_config["TwitterAPI"], task.initial_config["MessageAPI"]
    person = {"username": twitter.get("username", "john"), "password": twitter.get("password", "john123")}
    names = ("client_id", "client_secret", "refresh_token", "grant_type", "user_first_name", "user_last_name")
    return [
        ToolCall("message_login", {"user_id": messages.get("current_user") or "USR001"}),
        ToolCall("authenticate_twitter", person),
        ToolCall("trading_login", person),
        ToolCall("ticket_login", person),
        ToolCall("authenticate_travel", dict.fromkeys(names, "read_write")),
    ]


_FILE_TOOLS = frozenset(
    {"mkdir", "touch", "cd", "cp", "mv", "rm", "rmdir", "echo", "cat", "tail", "sort", "grep", "wc"}
)


def _mkdir(name: str) -> tuple[str, JSON]:
    return "mkdir", {"dir_name": name}


def _cp(source: str, destination: str) -> tuple[str, JSON]:
    return "cp", {"source": source, "destination": destination}


def _mv(source: str, destination: str) -> tuple[str, JSON]:
    return "mv", {"source": source, "destination": destination}


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
