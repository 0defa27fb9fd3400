"""Three tools change process-wide state, two depend on it. Here each works on a private copy, on any thread.

In: a simulator's method. Out: a callable with the same results. No global state is set and restored: `logarithm` and
the weather run with other module globals, `square_root` in a decimal context of its own.

`book_flight` and `edit_ticket` print a set of texts, whose order depends on the process's hash seed. Here it is one of
the orders that the benchmark prints: sorted travel classes, and fields as the call gave them.
"""

from __future__ import annotations

import ast
import decimal
import importlib
import threading
from collections.abc import Callable, Container, Iterable
from functools import cache
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

Isolation = Callable[[MethodType], Callable[..., Any]]
"""A method that leaves the process unchanged. Its result must become text before the next call, because an mpmath
number is printed with the precision it was computed with."""


def _with_globals(method: MethodType, **private: Any) -> MethodType:
    function = method.__func__
    assert isinstance(function, FunctionType)
    copy = FunctionType(function.__code__, {**function.__globals__, **private}, None, function.__defaults__)
    copy.__qualname__ = function.__qualname__
    return MethodType(copy, method.__self__)


def _own_mpmath(method: MethodType) -> MethodType:
    if not hasattr(_LOCAL, "mpmath"):
        context = method.__func__.__globals__["mpmath"].mp.clone()
        _LOCAL.mpmath = SimpleNamespace(mp=context, log=context.log)
    return _with_globals(method, mpmath=_LOCAL.mpmath)


def _own_decimal(method: MethodType) -> Callable[..., Any]:
    def run(**arguments: Any) -> Any:
        with decimal.localcontext():
            return method(**arguments)

    return run


def _own_weather(method: MethodType) -> MethodType:
    return _with_globals(method, LONG_WEATHER_EXTENSION=dict(_weather()))


def _sorted_classes(method: MethodType) -> Callable[..., Any]:
    def run(**arguments: Any) -> Any:
        result = method(**arguments)
        error = result.get("error") if isinstance(result, dict) else None
        if isinstance(error, str) and error.startswith(_CLASSES):
            names = sorted(ast.literal_eval(error.removeprefix(_CLASSES)))
            result["error"] = f"{_CLASSES}{{{', '.join(map(repr, names))}}}"
        return result

    return run


class _Given(dict[str, None]):
    """A set in the order in which it was given."""

    def __sub__(self, other: Container[str]) -> _Given:
        return _given(name for name in self if name not in other)


def _given(names: Iterable[str]) -> _Given:
    return _Given(dict.fromkeys(names))


def _fields_as_given(method: MethodType) -> MethodType:
    return _with_globals(method, set=_given)


@cache
def _weather() -> dict[str, Any]:
    """The padding as in the benchmark's source, before any call of the tool."""
    source = importlib.import_module("bfcl_eval.eval_checker.multi_turn_eval.func_source_code.long_context")
    return {k: v for k, v in source.LONG_WEATHER_EXTENSION.items() if k != "outsideTemperature"}


_LOCAL = threading.local()
_CLASSES = "Invalid travel class. Must be one of "
"""Beginning of `book_flight`'s error before the set."""
ISOLATED: dict[str, Isolation] = {
    "logarithm": _own_mpmath,
    "square_root": _own_decimal,
    "get_outside_temperature_from_google": _own_weather,
    "book_flight": _sorted_classes,
    "edit_ticket": _fields_as_given,
}
"""Tool -> its isolation: `logarithm` sets mpmath's precision, `square_root` that of the decimal context, and the
weather of long_context writes into its module's dictionary. The other two print sets."""
