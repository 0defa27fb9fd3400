"""The benchmark's own executor and checker, called in this process.

In: a `Task` and calls by turn and step. Out: the official verdict and the official result strings. Use it only for
calls that this project made itself (ground truth and its perturbations), because the official executor evaluates what
it is given. A model's text goes to it through `confined`, in a process with limits.

The executor keeps every simulator in its module's globals, and `post_tweet` keeps its default lists, for the life of
the process. Both are cleaned up after each use, as if each instance ran in its own process.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_utils
from bfcl_eval.eval_checker.multi_turn_eval.func_source_code.posting_api import TwitterAPI
from bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker import multi_turn_checker

from envtune.types import Task, ToolCall

_MODEL = "envtune"
UNFINISHED = "unfinished:"
"""Start of the error type where the official checker was stopped or crashed."""

Calls = Sequence[Sequence[Sequence[ToolCall]]]
"""Turns of steps of calls."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The official checker's answer."""

    valid: bool
    error_type: str | None
    """For example `multi_turn:instance_state_mismatch`. None if valid."""

    @property
    def reached(self) -> bool:
        """Whether the checker came to a verdict at all (see `confined`)."""
        return not (self.error_type or "").startswith(UNFINISHED)


def call_string(call: ToolCall) -> str:
    """The expression that the official handlers make from a call (`convert_to_function_call`)."""
    return f"{call.name}({','.join(f'{name}={value!r}' for name, value in call.arguments.items())})"


def verdict(task: Task, turns: Calls, ground_truth: Sequence[Sequence[str]] | None = None) -> Verdict:
    """The official verdict on calls.

    Args:
        task: the instance.
        turns: turns of steps of calls. Fewer turns than the task has: force-terminated, as `eval_runner.py` says.
        ground_truth: the answer file's strings. Default: the task's calls, written as strings.
    """
    return check(
        task, [[[call_string(call) for call in step] for step in turn if step] for turn in turns], ground_truth
    )


def check(
    task: Task, decoded: Sequence[Sequence[Sequence[str]]], ground_truth: Sequence[Sequence[str]] | None = None
) -> Verdict:
    """The official verdict on expressions, by turn and step. They are evaluated: see the module's warning."""
    if len(decoded) != task.n_turns:
        return Verdict(False, "multi_turn:force_terminated")
    with _clean_process():
        result = multi_turn_checker(decoded, ground_truth or _expected(task), _entry(task), "", _MODEL)
    return Verdict(result["valid"], result.get("error_type"))


def evaluate(task: Task, result: Any, handler: Any, runner: Callable[..., dict[str, Any]]) -> Verdict:
    """The verdict of the official runner's own function on what a result file holds, read by a handler.

    Args:
        task: the instance.
        result: under the key `result` of its line.
        handler: the model's official handler.
        runner: `_evaluate_single_multi_turn_entry` of `eval_runner.py`.
    """
    with _clean_process():
        found = runner(handler, task.id, result, _expected(task), _entry(task), _MODEL, str(task.category))
    return Verdict(found["valid"], found.get("error", {}).get("error_type"))


def _expected(task: Task) -> list[list[str]]:
    return [[call_string(call) for call in turn] for turn in task.ground_truth]


def _entry(task: Task) -> dict[str, Any]:
    return {"id": task.id, "initial_config": task.initial_config, "involved_classes": list(task.involved_classes)}


def results(task: Task, turns: Calls) -> list[list[list[str]]]:
    """The official executor's result strings, in the shape of `turns` (steps without a call left out)."""
    with _clean_process():
        return [[_execute(task, [call_string(call) for call in step]) for step in turn if step] for turn in turns]


def rewrites_text(task: Task, turns: Calls) -> bool:
    """Whether the official executor's regular expression changes the inside of an argument of these calls."""
    with _clean_process():
        _execute(task, [])
        owners = {name: "x" for cls in task.involved_classes for name in _methods(cls)}
        return any(
            multi_turn_utils._process_method_calls(repr(value), owners) != repr(value)
            for turn in turns
            for step in turn
            for call in step
            for value in call.arguments.values()
        )


def load_simulators() -> None:
    """Import everything that the executor imports when it first needs it."""
    for module in multi_turn_utils.CLASS_FILE_PATH_MAPPING.values():
        with suppress(ImportError):  # those of other categories need packages that are not installed
            importlib.import_module(module)


def _methods(cls: str) -> list[str]:
    instance = next(value for name, value in vars(multi_turn_utils).items() if name.endswith(f"{cls}_instance"))
    return [name for name in dir(instance) if not name.startswith("_")]


def _execute(task: Task, calls: list[str]) -> list[str]:
    texts, _ = multi_turn_utils.execute_multi_turn_func_call(
        calls,
        task.initial_config,
        list(task.involved_classes),
        _MODEL,
        task.id,
        long_context=task.long_context,
        is_evaL_run=True,
    )
    return texts


@contextmanager
def _clean_process() -> Iterator[None]:
    try:
        yield
    finally:
        namespace = vars(multi_turn_utils)
        for name in [name for name in namespace if name.startswith(f"{_MODEL}_")]:
            del namespace[name]
        for default in TwitterAPI.post_tweet.__defaults__:
            default.clear()
