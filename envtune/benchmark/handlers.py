"""The official runner's own handlers and its verdict, without the vendors' packages that they import.

In: names that may be in the official registry. Out: an `OfficialRunner`, which reads a model's messages by that model's
`decode_execute` and gives the verdict of `eval_runner.py`. A decoder may evaluate what the model wrote. Use this module
in the process of `confined` only.

The handlers' modules import the packages that talk to models (openai, anthropic, boto3, ...). Decoding needs none of
them, so a stand-in replaces each one, whether it is installed or not. If a decoder uses a stand-in, `StandInUsedError`
ends the reading.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import FunctionType, ModuleType
from typing import Any

from envtune.benchmark import official
from envtune.benchmark.official import Verdict
from envtune.types import Task, ToolCall

Result = str | Sequence[Sequence[Any]]
"""What a line of a result file holds under `result`: turns of messages, or the text of an error of the runner."""
Expressions = list[list[list[str]]]
"""Turns of steps of expressions such as `ls(a=True)`."""


class UnknownHandlerError(ValueError):
    """No handler of this name, or one that the official runner cannot load."""


class StandInUsedError(BaseException):
    """A decoder uses a package that is not loaded. Not an `Exception`, which would mean a message without a call."""


class StandIn:
    """Anything in a package that is not loaded. Used as a decorator, it returns the function."""

    usable = True
    """True while the handlers are imported and made."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *arguments: Any, **_: Any) -> Any:
        """The function that is decorated, or another stand-in."""
        return arguments[0] if len(arguments) == 1 and isinstance(arguments[0], FunctionType) else self._use("()")

    def __getattr__(self, name: str) -> StandIn:
        return self._use(f".{name}")

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return ()

    def __getitem__(self, _: Any) -> StandIn:
        return self._use("[]")

    def __or__(self, _: Any) -> StandIn:
        return self._use("|")

    def _use(self, how: str) -> StandIn:
        if how.startswith(".__"):
            raise AttributeError(how)
        if not StandIn.usable:
            raise StandInUsedError(f"{self._name}{how}")
        return StandIn(f"{self._name}{how}")


class _StandInModule(ModuleType):
    def __getattr__(self, name: str) -> StandIn:
        return StandIn(self.__name__)._use(f".{name}")


class _StandInFinder(MetaPathFinder, Loader):
    """Finds a stand-in for every package outside the standard library and the benchmark that is not loaded yet."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        top = name.partition(".")[0]
        loaded = top in sys.modules and not isinstance(sys.modules[top], _StandInModule)
        if loaded or top in sys.stdlib_module_names or top == "bfcl_eval":
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandInModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


@contextmanager
def _stand_ins() -> Iterator[None]:
    finder = _StandInFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, _StandInModule)]:
            del sys.modules[name]


class OfficialRunner:
    """The official runner with the handler of one model."""

    name: str
    """The model's name in the registry."""

    def __init__(self) -> None:
        with _stand_ins(), tempfile.TemporaryDirectory() as root:
            os.environ["BFCL_PROJECT_ROOT"] = root  # the package makes folders there when it is imported
            self._runner = importlib.import_module("bfcl_eval.eval_checker.eval_runner")
        self.names: list[str] = list(self._runner.MODEL_CONFIG_MAPPING)

    def choose(self, names: Sequence[str]) -> None:
        """Take the handler of the first of these names that the registry holds, as it is or as a folder's name.

        Raises:
            UnknownHandlerError: none is there, or the handler cannot be made.
        """
        known = {name: name for name in self.names} | {name.replace("/", "_"): name for name in self.names}
        name = next((known[name] for name in names if name in known), None)
        if name is None:
            close = difflib.get_close_matches(names[0], self.names, 3, 0.5)
            raise UnknownHandlerError(
                f"{names[0]!r} is not a model of the official registry. Close are: {', '.join(close) or 'none'}"
            )
        StandIn.usable = True
        try:
            self._handler = self._runner.get_handler(name)
        except Exception as error:  # noqa: BLE001  a handler's constructor is foreign code
            raise UnknownHandlerError(
                f"the official runner cannot load its handler of {name} ({type(error).__name__}: {error})"
            ) from None
        StandIn.usable = False
        self.name = name

    def expressions(self, result: Result) -> Expressions:
        """What the handler reads in each message. Messages without a call are left out, as the runner does it."""
        if isinstance(result, str):
            return []
        return [[step for message in turn if (step := self._decoded(message))] for turn in result]

    def verdict(self, task: Task, result: Result) -> Verdict:
        """The runner's verdict on a line of a result file."""
        return official.evaluate(task, result, self._handler, self._runner._evaluate_single_multi_turn_entry)

    def _decoded(self, message: Any) -> list[str]:
        try:
            decoded = self._handler.decode_execute(message, has_tool_call_tag=False)
            return [] if self._runner.is_empty_execute_response(decoded) else [str(text) for text in decoded]
        except Exception:  # noqa: BLE001  as the official runner: a message that cannot be decoded holds no call
            return []


def read_call(expression: str) -> tuple[ToolCall | None, bool]:
    """The call that an expression makes, and whether its arguments are the same in JSON.

    None: the expression is not a single call by a plain name with literal keyword arguments. The official executor
    still evaluates it.
    """
    try:
        call = ast.parse(expression, mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            return None, False
        found = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
        if None in found:  # **arguments
            return None, False
        arguments = json.loads(json.dumps(found))
        return ToolCall(call.func.id, arguments), repr(found) == repr(arguments)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None, False
