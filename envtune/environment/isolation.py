"""Three tools change process-wide state. Here each works on a private copy, on any thread.

In: a simulator's method. Out: a callable with the same results. No global state is set and restored: `logarithm` and
the weather run with other module globals, `square_root` in a decimal context of its own.
"""

from __future__ import annotations

import decimal
import importlib
import threading
from collections.abc import Callable
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


@cache
def _weather() -> dict[str, Any]:
    """The padding as in the benchmark's source, before any call of the tool."""
    source = importlib.import_module("bfcl_eval.eval_checker.multi_turn_eval.func_source_code.long_context")
    return {k: v for k, v in source.LONG_WEATHER_EXTENSION.items() if k != "outsideTemperature"}


_LOCAL = threading.local()
ISOLATED: dict[str, Isolation] = {
    "logarithm": _own_mpmath,
    "square_root": _own_decimal,
    "get_outside_temperature_from_google": _own_weather,
}
"""Tool -> its isolation: `logarithm` sets mpmath's precision, `square_root` that of the decimal context, and the
weather of long_context writes into its module's dictionary."""
