"""The live tools of one episode: the benchmark's own simulators, called directly.

In: a `Task`, then `ToolCall`s one by one. Out: for each call the text that the official executor would return
(`multi_turn_utils.py`, `execute_multi_turn_func_call`), byte for byte, its messages for unknown tools and wrong
arguments included. The official executor builds a Python expression and evaluates it. Here nothing is evaluated. A call
runs only if its name is a public method of an involved simulator and its argument names are identifiers, and then as a
plain method call.

Named departures, each because of a defect of the official executor:

- *rewritten text*: the official regular expression, meant to prefix method names, also matches inside string arguments.
  `"note (a)"` becomes `"note(a)"`, and a tool name before a parenthesis gets an instance name in front. Here arguments
  arrive unchanged.
- *evaluated names*: the official executor runs a call of a Python builtin or of a name in its own module. Here it is an
  unknown tool.
- *shared defaults*: `post_tweet` has list defaults that `mention` then extends, for every later episode of the process.
  Here every call gets fresh lists.
- *order of a set*: two messages list texts in the order of a Python set, which changes from process to process. Here
  it is always the same one (`environment.isolation`).
- *guarded calls*: a call that would hang, exhaust or change the process is stopped or isolated (`environment.guards`,
  `environment.isolation`).

To save time, the ground truth runs once per task and its results are recorded. As long as an episode makes exactly
these calls in this order, in whatever turns, it reads the record. At the first other call the simulators are taken from
the task's store and run the calls made so far. The caller sees the same (tested), because a simulator depends only on
its scenario and its calls.
"""

from __future__ import annotations

import ast
import builtins
import copy
import importlib
import keyword
import math
import pickle
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from envtune import fastjson
from envtune.environment import guards
from envtune.environment.store import SOURCES, Tool, store
from envtune.types import Task, ToolCall

FORBIDDEN = frozenset({"kill", "exit", "quit", "remove", "unlink", "popen", "Popen", "run"})
"""Names that the official executor refuses."""
EXECUTOR_NAMES = frozenset(
    {"copy", "importlib", "inspect", "json", "re", "CLASS_FILE_PATH_MAPPING", "STATELESS_CLASSES"}
    | {"execute_multi_turn_func_call", "is_empty_execute_response", "_process_method_calls"}
)
"""Names that the official executor's module defines, and that it would therefore run."""

State = dict[str, dict[str, Any]]
"""Simulator class -> public attribute -> value."""


class RawResult(NamedTuple):
    """The simulator's answer, before any hint."""

    text: str
    error: bool
    guarded: bool = False
    unknown_tool: bool = False


class Simulators:
    """The simulators of one task, in their initial state. They belong to one episode and end with it."""

    def __init__(self, task: Task) -> None:
        self._store = store(task)
        self._taken: dict[str, Any] = {}
        self._meter = guards.Meter()
        self._record: tuple[Recorded, ...] = _RECORDS.get(task, ())
        """The ground truth's calls, as long as this episode follows them."""
        self._followed = 0

    def call(self, call: ToolCall) -> RawResult:
        """Run one call. Never raises: a failure is text that the agent reads."""
        if self._followed < len(self._record):
            recorded = self._record[self._followed]
            if recorded.call is call or recorded.same(call):
                self._followed += 1
                return recorded.result
        try:
            self._catch_up()
            result = self._call(call.name, call.arguments)
            self._meter.take(result.text)
            return result
        except guards.ExceededError as error:
            known = type(call.name) is str and call.name in self._store.tools
            return _failed(str(error), guarded=True, unknown_tool=not known)

    def _call(self, name: str, arguments: dict[str, Any]) -> RawResult:
        size, finite = guards.measure(arguments)
        if type(name) is not str or len(name) > guards.MAX_NAME:
            raise guards.ExceededError(f"a tool's name has at most {guards.MAX_NAME} characters", "use a tool listed")
        tool = self._store.tools.get(name)
        if tool is None or not (arguments.keys() <= tool.parameters or all(map(_is_identifier, arguments))):
            return _rejected(name, arguments, known=tool is not None)
        if not finite:
            return _failed(f"name '{next(_unnamed_constants(arguments))}' is not defined")
        self._meter.give(size)
        instance = self._instance(tool.cls)
        if tool.guard is not None:
            tool.guard(instance, arguments)
        method = getattr(instance, name)
        if tool.isolate is not None:
            method = tool.isolate(method)
        try:
            value = method(**_copied({**tool.defaults, **arguments} if tool.defaults else arguments))
            return RawResult(_as_text(value), _is_error(value))
        except Exception as error:  # noqa: BLE001  the tool boundary: a failing tool is data
            return _failed(str(error))

    def _instance(self, cls: str) -> Any:
        """A live simulator, taken from the store when first needed."""
        found = self._taken.get(cls)
        if found is None:
            found = self._taken[cls] = self._store.take(cls)
        return found

    def _catch_up(self) -> None:
        """Stop following the record: run the calls whose results were only read so far."""
        if self._record:
            calls = [recorded.call for recorded in self._record[: self._followed]]
            self._record = ()
            for call in calls:
                self.call(call)

    def fork(self) -> Simulators:
        """An independent copy in the present state."""
        self._catch_up()
        made = object.__new__(Simulators)
        made._store, made._record, made._followed = self._store, (), 0
        made._taken = pickle.loads(pickle.dumps(self._taken, protocol=pickle.HIGHEST_PROTOCOL))
        made._meter = copy.copy(self._meter)
        return made

    def live(self, cls: str) -> Any:
        """The live simulator of a class, hidden attributes and all: for studies, never for a hint."""
        self._catch_up()
        return self._instance(cls)

    @property
    def tools(self) -> dict[str, Tool]:
        """Every tool by name."""
        return self._store.tools

    @property
    def _instances(self) -> dict[str, Any]:
        """The live simulators by class."""
        self._catch_up()
        return {cls: self._instance(cls) for cls in self._store.pickled}

    def state(self) -> State:
        """The public attributes by simulator, as live objects, not copies."""
        return {
            cls: {name: value for name, value in vars(instance).items() if not name.startswith("_")}
            for cls, instance in self._instances.items()
        }

    def state_equals(self, expected: State) -> bool:
        """Whether every public attribute equals the expected one (`state_checker`)."""
        self._catch_up()
        taken, initial = self._taken, self._store.initial
        try:
            for cls, attributes in expected.items():
                instance = taken.get(cls)
                if not attributes.items() <= vars(initial[cls] if instance is None else instance).items():
                    return False
        except RecursionError:  # a directory within itself, on both sides
            return False
        return True

    def reached(self, expected: Expected) -> bool:
        """Whether the state is the one that the ground truth leaves behind."""
        return bool(self._record and self._followed == expected.calls) or self.state_equals(expected.state)


def _is_identifier(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


def _copied(value: Any) -> Any:
    """A deep copy of a JSON value."""
    if type(value) is dict:
        return {name: _copied(item) if type(item) in _CONTAINERS else item for name, item in value.items()}
    return [_copied(item) if type(item) in _CONTAINERS else item for item in value]


_CONTAINERS = frozenset({dict, list})


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        try:
            return _json(value)
        except (TypeError, ValueError):  # a Decimal or an mpf
            return str(value)
    return str(value)


def _json(value: dict[Any, Any]) -> str:
    """`json.dumps`, except that the lists that pad results in long_context are written once per process."""
    if not _PADDED.isdisjoint(value):
        padding = _padding()
        if any(id(item) in padding for item in value.values()):
            items = (f"{_encode(name)}: {padding.get(id(item)) or _encode(item)}" for name, item in value.items())
            return f"{{{', '.join(items)}}}"
    return _encode(value)


_encode = fastjson.encoder()
_PADDED = frozenset({"MA(5)", "MA(20)", "intermediaryCities"})


@cache
def _padding() -> dict[int, str]:
    """id -> JSON text of the long lists that tools put into their results unchanged."""
    source = importlib.import_module(f"{SOURCES}.long_context")
    constants = (source.MA_5_EXTENSION, source.MA_20_EXTENSION, source.INTERMEDIARY_CITIES)
    return {id(constant): _encode(constant) for constant in constants}


def _is_error(value: Any) -> bool:
    """Simulators return `{"error": ...}`, some of them inside a list. The watch list returns `["Error: ..."]`."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
        if isinstance(value, str):
            return value.startswith("Error: ")
    return isinstance(value, dict) and "error" in value


def _failed(message: str, *, guarded: bool = False, unknown_tool: bool = False) -> RawResult:
    return RawResult(f"Error during execution: {message}", True, guarded, unknown_tool)


def _rejected(name: str, arguments: dict[str, Any], known: bool) -> RawResult:
    """The official executor's message for a call it cannot make, found by parsing the expression."""
    first, *rest = name.split("(")[0].split(".")
    refused = rest[0] if rest else first
    if refused in FORBIDDEN:
        return _failed(f"Function call {refused} is not allowed.", unknown_tool=not known)
    if (literal := next(filter(_LITERAL.search, (name, *arguments)), None)) is not None:
        return _failed(f"{literal!r} is not a name", guarded=True, unknown_tool=not known)
    written = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    try:
        expression = ast.parse(f"{name}({written})", "<string>", "eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        return _failed(str(error), unknown_tool=not known)
    if known:
        bad = next(key for key in arguments if not _is_identifier(key))
        return _failed(f"argument name {bad!r} is not an identifier", guarded=True)
    looked_up = _first_name(expression) or name
    plain = all(part.isidentifier() for part in name.replace("-", ".").split("."))
    guarded = not plain or hasattr(builtins, looked_up) or looked_up in EXECUTOR_NAMES
    return _failed(f"name '{looked_up}' is not defined", guarded=guarded, unknown_tool=True)


_LITERAL = re.compile(r"""['"\\]|\b\d""")
"""Expressions for which Python's parser prints warnings about a text or a number that should be a name."""


def _first_name(node: ast.AST) -> str | None:
    """The name that Python would look up first."""
    if isinstance(node, ast.Name):
        return node.id
    return next((name for child in ast.iter_child_nodes(node) if (name := _first_name(child))), None)


def _unnamed_constants(value: Any) -> Iterator[str]:
    """`nan` and `inf` inside a value: Python writes them as names that the official executor does not know."""
    if isinstance(value, float) and not math.isfinite(value):
        yield "nan" if math.isnan(value) else "inf"
    elif isinstance(value, dict):
        for item in value.values():
            yield from _unnamed_constants(item)
    elif isinstance(value, list):
        for item in value:
            yield from _unnamed_constants(item)


@dataclass(frozen=True, slots=True)
class Expected:
    """The responses and the state after one turn of the ground truth."""

    responses: tuple[str, ...]
    counts: tuple[tuple[str, int], ...]
    """The responses with their multiplicities."""
    state: State
    calls: int
    """Calls of the ground truth up to here, earlier turns included."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One call of the ground truth and its result."""

    call: ToolCall
    written: str
    result: RawResult

    def same(self, call: ToolCall) -> bool:
        """Whether `call` is exactly this one: `1`, `1.0` and `True` are equal, but read differently."""
        return (
            call.name == self.call.name
            and call.arguments == self.call.arguments
            and repr(call.arguments) == self.written
        )


_EXPECTED: WeakKeyDictionary[Task, tuple[Expected, ...]] = WeakKeyDictionary()
_RECORDS: WeakKeyDictionary[Task, tuple[Recorded, ...]] = WeakKeyDictionary()


def ground_truth_run(task: Task) -> tuple[Expected, ...]:
    """Responses and state after each turn of the ground truth, executed once per task and cached.

    Turns with an empty ground truth are included. The official checker skips them, the environment compares them.
    """
    found = _EXPECTED.get(task)
    if found is None:
        simulators = Simulators(task)
        run: list[Expected] = []
        record: list[Recorded] = []
        for turn in task.ground_truth:
            results = [simulators.call(call) for call in turn]
            record += [Recorded(c, repr(c.arguments), result) for c, result in zip(turn, results, strict=True)]
            responses = tuple(result.text for result in results)
            state = copy.deepcopy(simulators.state())
            run.append(Expected(responses, tuple(Counter(responses).items()), state, len(record)))
        found = _EXPECTED[task] = tuple(run)
        _RECORDS[task] = tuple(record)
    return found
