"""The live tools of one episode: the benchmark's own simulators, called directly.

In: a `Task`, then `ToolCall`s one by one. Out: for each call the text that the official executor would return
(`multi_turn_utils.py`, `execute_multi_turn_func_call`), byte for byte, its messages for unknown tools and wrong
arguments included. The official executor builds a Python expression and evaluates it; nothing is evaluated here: a
call runs only if its name is a public method of an involved simulator and its argument names are identifiers, and then
as a plain method call.

Named departures, each a defect of the official executor:

- *rewritten text*: its regular expression, meant to prefix method names, also fires inside string arguments: `"note
  (a)"` becomes `"note(a)"`, and a tool name before a parenthesis gets an instance name in front. Arguments arrive
  untouched here.
- *evaluated names*: a call of a Python builtin or of a name in the executor's own module is executed there. Here it is
  an unknown tool.
- *shared defaults*: `post_tweet` has list defaults that `mention` then extends, for every later episode of the process.
  Here every call gets fresh ones.
- *guarded calls*: what would hang, exhaust or change the process is stopped or isolated, see `environment.guards`.

An episode takes a simulator out of its task's store when the first call needs it. Until then the store's own comparison
with the ground truth stands in for it.
"""

from __future__ import annotations

import ast
import builtins
import copy
import importlib
import json
import keyword
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from envtune import fastjson
from envtune.environment import guards
from envtune.environment.store import SOURCES, Store, Tool, store
from envtune.types import Task, ToolCall

FORBIDDEN = frozenset({"kill", "exit", "quit", "remove", "unlink", "popen", "Popen", "run"})
"""Names that the official executor refuses."""
EXECUTOR_NAMES = frozenset(
    {"copy", "importlib", "inspect", "json", "re", "CLASS_FILE_PATH_MAPPING", "STATELESS_CLASSES"}
    | {"execute_multi_turn_func_call", "is_empty_execute_response", "_process_method_calls"}
)
"""What the official executor's module defines, and hence would run."""

State = dict[str, tuple[Any, ...]]
"""Simulator class -> values of its public attributes, in the order of `Store.public`."""


class RawResult(NamedTuple):
    """What the simulator answered, before any hint."""

    text: str
    error: bool
    guarded: bool = False
    unknown_tool: bool = False


class Simulators:
    """The simulators of one task, in their initial state. They belong to one episode and die with it."""

    def __init__(self, task: Task) -> None:
        self._store = store(task)
        self._instances: dict[str, Any] = _Instances(self._store)
        self._meter = guards.Meter()

    def call(self, call: ToolCall) -> RawResult:
        """Run one call. Never raises: whatever goes wrong is text that the agent reads."""
        try:
            result = self._call(call.name, call.arguments)
            self._meter.take(result.text)
            return result
        except guards.ExceededError as error:
            known = type(call.name) is str and call.name in self._store.tools
            return _failed(str(error), guarded=True, unknown_tool=not known)

    def _call(self, name: str, arguments: dict[str, Any]) -> RawResult:
        size, finite = guards.measure(arguments)
        if type(name) is not str or len(name) > guards.MAX_NAME:
            raise guards.ExceededError(f"a tool's name is text of at most {guards.MAX_NAME} characters", "use a tool listed")
        tool = self._store.tools.get(name)
        if tool is None or not (arguments.keys() <= tool.parameters or all(map(_is_identifier, arguments))):
            return _rejected(name, arguments, known=tool is not None)
        if not finite:
            return _failed(f"name '{next(_unnamed_constants(arguments))}' is not defined")
        self._meter.give(size)
        instance = self._instances[tool.cls]
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

    @property
    def tools(self) -> dict[str, Tool]:
        """Every tool by name."""
        return self._store.tools

    def state(self) -> State:
        """The public attributes by simulator; live objects, not copies."""
        return {cls: values(self._instances[cls]) for cls, values in self._store.public.items()}

    def state_equals(self, expected: State) -> bool:
        """Whether every public attribute equals the expected one (`state_checker`)."""
        used, unused = self._instances, self._store.initial
        try:
            for cls, values in self._store.public.items():
                instance = used.get(cls)
                if values(unused[cls] if instance is None else instance) != expected[cls]:
                    return False
        except RecursionError:  # a directory within itself, on both sides
            return False
        return True


class _Instances(dict[str, Any]):
    """Simulator class -> instance, taken out of the store when first asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __missing__(self, cls: str) -> Any:
        instance = self[cls] = self._store.take(cls)
        return instance


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
    """`json.dumps`, where the lists that pad every result of a tool in long_context are written once per process."""
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
    """id -> JSON text of the long lists that tools put into their results as they are."""
    source = importlib.import_module(f"{SOURCES}.long_context")
    constants = (source.MA_5_EXTENSION, source.MA_20_EXTENSION, source.INTERMEDIARY_CITIES)
    return {id(constant): _encode(constant) for constant in constants}


def _is_error(value: Any) -> bool:
    """Simulators say `{"error": ...}`, some inside a list, and the watch list says `["Error: ..."]`."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
        if isinstance(value, str):
            return value.startswith("Error: ")
    return isinstance(value, dict) and "error" in value


def _failed(message: str, *, guarded: bool = False, unknown_tool: bool = False) -> RawResult:
    return RawResult(f"Error during execution: {message}", True, guarded, unknown_tool)


def _rejected(name: str, arguments: dict[str, Any], known: bool) -> RawResult:
    """What the official executor says of a call it cannot make: found by parsing the expression."""
    first, *rest = name.split("(")[0].split(".")
    refused = rest[0] if rest else first
    if refused in FORBIDDEN:
        return _failed(f"Function call {refused} is not allowed.", unknown_tool=not known)
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
    """What the ground truth of one turn leaves behind."""

    responses: tuple[str, ...]
    state: State
    counts: tuple[tuple[str, int], ...]
    """The responses with their multiplicities."""


_EXPECTED: WeakKeyDictionary[Task, tuple[Expected, ...]] = WeakKeyDictionary()


def ground_truth_run(task: Task) -> tuple[Expected, ...]:
    """Responses and state after each turn of the ground truth, executed once per task and cached.

    Turns with an empty ground truth are included: the official checker skips them, the environment compares them.
    """
    expected = _EXPECTED.get(task)
    if expected is None:
        simulators = Simulators(task)
        run = []
        for turn in task.ground_truth:
            responses = tuple(simulators.call(call).text for call in turn)
            state = copy.deepcopy(simulators.state())
            run.append(Expected(responses, state, tuple(Counter(responses).items())))
        expected = _EXPECTED[task] = tuple(run)
    return expected
