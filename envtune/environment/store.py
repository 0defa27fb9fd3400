"""The source of an episode's simulators: per task, each simulator with its scenario loaded, ready to be copied.

In: a `Task`. Out: its `Store`. A store lives as long as its task and is never changed. Only `environment.simulator`
uses it.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import random
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from envtune.data.bfcl import INSTALL_COMMAND, TOOL_DOCS
from envtune.environment import guards, isolation
from envtune.types import Task

STATELESS = frozenset({"MathAPI"})
"""Simulators without a scenario (`executable_backend_config.py`)."""
SOURCES = "bfcl_eval.eval_checker.multi_turn_eval.func_source_code"


@cache
def _simulator_class(name: str) -> type:
    try:
        module = importlib.import_module(f"{SOURCES}.{TOOL_DOCS[name]}")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; the benchmark is installed with: {INSTALL_COMMAND}") from error
    return getattr(module, name)


@cache
def _tools(cls: str) -> frozenset[str]:
    """Public methods of a simulator, found as the official executor finds them."""
    methods = inspect.getmembers(_simulator_class(cls)(), predicate=inspect.ismethod)
    return frozenset(name for name, _ in methods if not name.startswith("_"))


class Tool(NamedTuple):
    """The facts about a tool that a call needs."""

    cls: str
    parameters: frozenset[str]
    defaults: dict[str, Any]
    """Mutable defaults: every call gets fresh copies."""
    guard: guards.Guard | None
    isolate: isolation.Isolation | None


@cache
def _table(classes: tuple[str, ...]) -> dict[str, Tool]:
    """Tool name -> tool. Where two simulators have a tool of the same name, the later one wins."""
    return {name: _tool(cls, name) for cls in classes for name in _tools(cls)}


def _tool(cls: str, name: str) -> Tool:
    parameters = list(inspect.signature(getattr(_simulator_class(cls), name)).parameters.values())[1:]
    defaults = {p.name: copy.deepcopy(p.default) for p in parameters if isinstance(p.default, list | dict | set)}
    names = frozenset(p.name for p in parameters)
    return Tool(cls, names, defaults, guards.GUARDS.get(name), isolation.ISOLATED.get(name))


class _Dice:
    """The random generator of a fresh simulator. It is made when first used, because its state is 625 numbers."""

    __slots__ = ("_random", "_state")

    def __init__(self, state: tuple[Any, ...]) -> None:
        self._state = state
        self._random: random.Random | None = None

    def __getattr__(self, name: str) -> Any:
        if self._random is None:
            self._random = random.Random(0)
            self._random.setstate(self._state)
        return getattr(self._random, name)

    def __reduce__(self) -> tuple[type[_Dice], tuple[tuple[Any, ...]]]:
        return _Dice, (self._state if self._random is None else self._random.getstate(),)


class Store:
    """A task's simulators with their scenario loaded, from which every episode takes its own."""

    __slots__ = ("dice", "initial", "pickled", "tools")

    def __init__(self, task: Task) -> None:
        self.tools = _table(task.involved_classes)
        self.initial: dict[str, Any] = {}
        """Read only: the simulators before any call."""
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
    """Give all files one time of last change. Nothing reads it, and the copy is cheaper."""
    for item in directory.contents.values():
        if hasattr(item, "contents"):
            _share_time(item, now)
        else:
            item._last_modified = now


_STORES: WeakKeyDictionary[Task, Store] = WeakKeyDictionary()


def store(task: Task) -> Store:
    """The task's store, made on first use."""
    found = _STORES.get(task)
    if found is None:
        found = _STORES[task] = Store(task)
    return found
