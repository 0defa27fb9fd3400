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
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from envtune.data.bfcl import INSTALL_COMMAND, TOOL_DOCS
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


@dataclass(frozen=True, slots=True)
class RawResult:
    """What the simulator answered, before any hint."""

    text: str
    error: bool
    guarded: bool = False
    unknown_tool: bool = False


class Simulators:
    """The simulators of one task, in their initial state. They belong to one episode and die with it."""

    def __init__(self, task: Task) -> None:
        self._instances: dict[str, Any] = pickle.loads(_pristine(task))
        self._owner = {name: cls for cls in task.involved_classes for name in _tools(cls)}

    def call(self, call: ToolCall) -> RawResult:
        """Run one call. Never raises: whatever goes wrong is text that the agent reads."""
        cls = self._owner.get(call.name)
        if cls is None or not all(_is_identifier(name) for name in call.arguments):
            return _rejected(call, known=cls is not None)
        if (constant := next(_unnamed_constants(call.arguments), None)) is not None:
            return _failed(f"name '{constant}' is not defined")
        arguments = {**_fresh_defaults(cls, call.name), **copy.deepcopy(call.arguments)}
        try:
            value = getattr(self._instances[cls], call.name)(**arguments)
            return RawResult(_as_text(value), _is_error(value))
        except Exception as error:  # noqa: BLE001  the tool boundary: a failing tool is data
            return _failed(str(error))

    def state(self) -> State:
        """The public attributes by simulator; live objects, not copies."""
        return {cls: _public(instance) for cls, instance in self._instances.items()}

    def state_equals(self, expected: State) -> bool:
        """Whether every public attribute equals the expected one (`state_checker`)."""
        try:
            return all(
                attributes.get(name, _MISSING) == value
                for cls, attributes in self.state().items()
                for name, value in expected[cls].items()
            )
        except RecursionError:  # a directory that the agent copied into itself
            return False


_MISSING = object()


def _public(instance: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(instance).items() if not name.startswith("_")}


def _is_identifier(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        try:
            return json.dumps(value)
        except (TypeError, ValueError):  # a Decimal, an mpf, a cycle
            return str(value)
    return str(value)


def _is_error(value: Any) -> bool:
    """Simulators say `{"error": ...}`, some inside a list, and the watch list says `["Error: ..."]`."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
        if isinstance(value, str):
            return value.startswith("Error: ")
    return isinstance(value, dict) and "error" in value


def _failed(message: str, *, guarded: bool = False, unknown_tool: bool = False) -> RawResult:
    return RawResult(f"Error during execution: {message}", True, guarded, unknown_tool)


def _rejected(call: ToolCall, known: bool) -> RawResult:
    """What the official executor says of a call it cannot make: found by parsing the expression."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())
    first, *rest = call.name.split("(")[0].split(".")
    refused = rest[0] if rest else first
    if refused in FORBIDDEN:
        return _failed(f"Function call {refused} is not allowed.", unknown_tool=not known)
    try:
        expression = ast.parse(f"{call.name}({arguments})", "<string>", "eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        return _failed(str(error), unknown_tool=not known)
    if known:
        bad = next(name for name in call.arguments if not _is_identifier(name))
        return _failed(f"argument name {bad!r} is not an identifier", guarded=True)
    name = _first_name(expression) or call.name
    plain = all(part.isidentifier() for part in call.name.replace("-", ".").split("."))
    guarded = not plain or hasattr(builtins, name) or name in EXECUTOR_NAMES
    return _failed(f"name '{name}' is not defined", guarded=guarded, unknown_tool=True)


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


@cache
def _simulator_class(name: str) -> type:
    try:
        module = importlib.import_module(f"bfcl_eval.eval_checker.multi_turn_eval.func_source_code.{TOOL_DOCS[name]}")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; the benchmark is installed with: {INSTALL_COMMAND}") from error
    return getattr(module, name)


@cache
def _tools(cls: str) -> frozenset[str]:
    """Public methods of a simulator, found as the official executor finds them."""
    methods = inspect.getmembers(_simulator_class(cls)(), predicate=inspect.ismethod)
    return frozenset(name for name, _ in methods if not name.startswith("_"))


@cache
def _mutable_defaults(cls: str, method: str) -> dict[str, Any]:
    parameters = inspect.signature(getattr(_simulator_class(cls), method)).parameters.values()
    return {p.name: copy.deepcopy(p.default) for p in parameters if isinstance(p.default, list | dict | set)}


def _fresh_defaults(cls: str, method: str) -> dict[str, Any]:
    return copy.deepcopy(defaults) if (defaults := _mutable_defaults(cls, method)) else {}


_PRISTINE: WeakKeyDictionary[Task, bytes] = WeakKeyDictionary()


def _pristine(task: Task) -> bytes:
    """The task's simulators with their scenario loaded, pickled once per task: unpickling is the cheapest deep copy."""
    if task not in _PRISTINE:
        instances = {}
        for cls in task.involved_classes:
            instances[cls] = instance = _simulator_class(cls)()
            if cls not in STATELESS:
                scenario = copy.deepcopy(task.initial_config.get(cls, {}))
                instance._load_scenario(scenario, long_context=task.long_context)
        _PRISTINE[task] = pickle.dumps(instances, protocol=pickle.HIGHEST_PROTOCOL)
    return _PRISTINE[task]


@dataclass(frozen=True, slots=True)
class Expected:
    """What the ground truth of one turn leaves behind."""

    responses: tuple[str, ...]
    state: State


_EXPECTED: WeakKeyDictionary[Task, tuple[Expected, ...]] = WeakKeyDictionary()


def ground_truth_run(task: Task) -> tuple[Expected, ...]:
    """Responses and state after each turn of the ground truth, executed once per task and cached.

    Turns with an empty ground truth are included: the official checker skips them, the environment compares them.
    """
    if task not in _EXPECTED:
        simulators = Simulators(task)
        run = []
        for turn in task.ground_truth:
            responses = tuple(simulators.call(call).text for call in turn)
            run.append(Expected(responses, copy.deepcopy(simulators.state())))
        _EXPECTED[task] = tuple(run)
    return _EXPECTED[task]
