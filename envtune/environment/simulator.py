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
import inspect
import json
import keyword
import math
import pickle
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from json.encoder import JSONEncoder, c_make_encoder, encode_basestring_ascii  # type: ignore[attr-defined]
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from envtune.data.bfcl import INSTALL_COMMAND, TOOL_DOCS
from envtune.environment import guards
from envtune.types import Task, ToolCall

STATELESS = frozenset({"MathAPI"})
"""Simulators without a scenario (`executable_backend_config.py`)."""
FORBIDDEN = frozenset({"kill", "exit", "quit", "remove", "unlink", "popen", "Popen", "run"})
"""Names that the official executor refuses."""
EXECUTOR_NAMES = frozenset(
    {"copy", "importlib", "inspect", "json", "re", "CLASS_FILE_PATH_MAPPING", "STATELESS_CLASSES"}
    | {"execute_multi_turn_func_call", "is_empty_execute_response", "_process_method_calls"}
)
"""What the official executor's module defines, and hence would run."""

State = dict[str, dict[str, Any]]
"""Simulator class -> public attribute -> value."""


class RawResult(NamedTuple):
    """What the simulator answered, before any hint."""

    text: str
    error: bool
    guarded: bool = False
    unknown_tool: bool = False


class Simulators:
    """The simulators of one task, in their initial state. They belong to one episode and die with it."""

    def __init__(self, task: Task) -> None:
        self._store = _store(task)
        self._instances: dict[str, Any] = _Instances(self._store)
        self._meter = guards.Meter()

    def call(self, call: ToolCall) -> RawResult:
        """Run one call. Never raises: whatever goes wrong is text that the agent reads."""
        try:
            result = self._call(call.name, call.arguments)
            self._meter.take(result.text)
            return result
        except guards.ExceededError as error:
            return _failed(str(error), guarded=True, unknown_tool=call.name not in self._store.tools)

    def _call(self, name: str, arguments: dict[str, Any]) -> RawResult:
        size, finite = guards.measure(arguments)
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
    def tools(self) -> dict[str, _Tool]:
        """Every tool by name."""
        return self._store.tools

    def state(self) -> State:
        """The public attributes by simulator; live objects, not copies."""
        return {cls: _public(self._instances[cls]) for cls in self._store.pickled}

    def state_equals(self, expected: State) -> bool:
        """Whether every public attribute equals the expected one (`state_checker`)."""
        used, unused = self._instances, self._store.initial
        try:
            return all(
                attributes.items() <= vars(used.get(cls) or unused[cls]).items() for cls, attributes in expected.items()
            )
        except RecursionError:  # a directory within itself, on both sides
            return False


class _Instances(dict[str, Any]):
    """Simulator class -> instance, taken out of the store when first asked for."""

    def __init__(self, store: _Store) -> None:
        self._store = store

    def __missing__(self, cls: str) -> Any:
        instance = self[cls] = self._store.take(cls)
        return instance


def _public(instance: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(instance).items() if not name.startswith("_")}


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


def _encoder() -> Callable[[Any], str]:
    """`json.dumps`, prepared once; a cycle ends in a RecursionError, but arguments hold none and results make none."""
    prepared = JSONEncoder()
    if c_make_encoder is None:
        return prepared.encode
    write = c_make_encoder(None, prepared.default, encode_basestring_ascii, None, ": ", ", ", False, False, True)
    return lambda value: "".join(write(value, 0))


_encode = _encoder()
_PADDED = frozenset({"MA(5)", "MA(20)", "intermediaryCities"})


@cache
def _padding() -> dict[int, str]:
    """id -> JSON text of the long lists that tools put into their results as they are."""
    source = importlib.import_module(f"{_SOURCES}.long_context")
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
    if len(name) > guards.MAX_NAME:
        raise guards.ExceededError(f"a tool name has at most {guards.MAX_NAME} characters", "use a tool of the list")
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


_SOURCES = "bfcl_eval.eval_checker.multi_turn_eval.func_source_code"


@cache
def _simulator_class(name: str) -> type:
    try:
        module = importlib.import_module(f"{_SOURCES}.{TOOL_DOCS[name]}")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; the benchmark is installed with: {INSTALL_COMMAND}") from error
    return getattr(module, name)


@cache
def _tools(cls: str) -> frozenset[str]:
    """Public methods of a simulator, found as the official executor finds them."""
    methods = inspect.getmembers(_simulator_class(cls)(), predicate=inspect.ismethod)
    return frozenset(name for name, _ in methods if not name.startswith("_"))


class _Tool(NamedTuple):
    """What a call needs to know of its tool."""

    cls: str
    parameters: frozenset[str]
    defaults: dict[str, Any]
    """The mutable ones: every call gets fresh copies."""
    guard: guards.Guard | None
    isolate: guards.Isolation | None


@cache
def _table(classes: tuple[str, ...]) -> dict[str, _Tool]:
    """Tool name -> tool; where two simulators have the same, the later one wins."""
    return {name: _tool(cls, name) for cls in classes for name in _tools(cls)}


def _tool(cls: str, name: str) -> _Tool:
    parameters = list(inspect.signature(getattr(_simulator_class(cls), name)).parameters.values())[1:]
    defaults = {p.name: copy.deepcopy(p.default) for p in parameters if isinstance(p.default, list | dict | set)}
    names = frozenset(p.name for p in parameters)
    return _Tool(cls, names, defaults, guards.GUARDS.get(name), guards.ISOLATED.get(name))


class _Dice:
    """The random generator of a fresh simulator, made when first rolled: its state is 625 numbers."""

    __slots__ = ("_random", "_state")

    def __init__(self, state: tuple[Any, ...]) -> None:
        self._state = state
        self._random: random.Random | None = None

    def __getattr__(self, name: str) -> Any:
        if self._random is None:
            self._random = random.Random(0)
            self._random.setstate(self._state)
        return getattr(self._random, name)


class _Store:
    """A task's simulators with their scenario loaded, from which every episode takes its own."""

    __slots__ = ("dice", "initial", "pickled", "tools")

    def __init__(self, task: Task) -> None:
        self.tools = _table(task.involved_classes)
        self.initial: dict[str, Any] = {}
        """Read only: what a simulator is as long as no call went to it."""
        self.dice: dict[str, tuple[Any, ...]] = {}
        self.pickled: dict[str, bytes] = {}
        """Unpickling is the cheapest deep copy."""
        for cls in task.involved_classes:
            instance = _simulator_class(cls)()
            if cls not in STATELESS:
                scenario = copy.deepcopy(task.initial_config.get(cls, {}))
                instance._load_scenario(scenario, long_context=task.long_context)
            if (generator := vars(instance).pop("_random", None)) is not None:
                self.dice[cls] = generator.getstate()
            if (root := getattr(instance, "root", None)) is not None:
                _share_time(root, datetime.now())
            self.pickled[cls] = pickle.dumps(instance, protocol=pickle.HIGHEST_PROTOCOL)
            self.initial[cls] = pickle.loads(self.pickled[cls])

    def take(self, cls: str) -> Any:
        """A simulator of the episode's own, in its initial state."""
        instance = pickle.loads(self.pickled[cls])
        if cls in self.dice:
            instance._random = _Dice(self.dice[cls])
        return instance


def _share_time(directory: Any, now: datetime) -> None:
    """One time of last change for all files: nothing reads it, and it makes the copy cheaper."""
    for item in directory.contents.values():
        if hasattr(item, "contents"):
            _share_time(item, now)
        else:
            item._last_modified = now


_STORES: WeakKeyDictionary[Task, _Store] = WeakKeyDictionary()


def _store(task: Task) -> _Store:
    store = _STORES.get(task)
    if store is None:
        store = _STORES[task] = _Store(task)
    return store


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
