"""The audit: which instances of the benchmark do not measure whether an agent does as told.

In: two files of this package. Out: a `Finding` for each such instance, and a `Reading` for each id number that two
readers judged independently. An instance is *sound* if an agent that does what the user says, and may look at
everything through the tools, reaches the verdict `success` for sure. `studies.audit` runs the proofs.

The audit does not list instances in which two ways to the same state are about equally long, and the official checker
wants the responses of one.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any

from envtune.data.bfcl import parse_call
from envtune.types import Category, Task, ToolCall


class Judgement(StrEnum):
    """What a reader says about an instance."""

    SOUND = "sound"
    """An agent that does as told succeeds."""
    GUESS = "guess"
    """It succeeds only if it guesses one of several values or actions that are equally good."""
    UNREACHABLE = "unreachable"
    """It fails for sure."""


class Fault(StrEnum):
    """What is wrong with an instance."""

    ALTERED_TEXT = "altered_text"
    """The ground truth's text or date is not the one that the user dictated or a tool returned."""
    FREE_TEXT = "free_text"
    """The verdict depends on a text that nobody dictated."""
    MISSING_VALUE = "missing_value"
    """The verdict depends on a value that nobody said and no tool shows."""
    WRONG_GOLD = "wrong_gold"
    """The ground truth does something else than what was asked for."""
    UNASKED_CALL = "unasked_call"
    """The verdict needs the response of a call that nobody asked for."""
    TWO_READINGS = "two_readings"
    """The request has two readings, and one of them passes."""
    IMPOSSIBLE_ORDER = "impossible_order"
    """The ground truth calls a tool before it is handed over."""
    SHORTER_WAY = "shorter_way"
    """A much shorter way to the same state fails, because the checker wants the responses of the longer one."""
    NOTHING_MISSING = "nothing_missing"
    """The ground truth waits for a value or a tool, although all that is needed is there."""
    CONTRADICTION = "contradiction"
    """The user's words contradict the scenario."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An instance that is not sound, with the replay that proves it."""

    task_id: str
    verdict: Judgement
    kind: Fault
    reason: str
    """The decisive words of the user, and what the ground truth does instead."""
    issue: str | None
    """Address of a public report, if one is known."""
    alternative: tuple[tuple[str, ...], ...]
    """Calls by turn, written as in the benchmark's own answers. They do as told, and the verdict is a failure."""

    def calls(self, task: Task) -> list[list[list[ToolCall]]]:
        """The alternative as `replay` takes it: one call per step.

        Raises:
            ValueError: a text is not a call of a tool that the task has.
        """
        tools = [*task.tools, *(tool for later in task.withheld.values() for tool in later)]
        documents = {tool["function"]["name"]: tool["function"] for tool in tools}
        return [[[parse_call(text, documents)] for text in turn] for turn in self.alternative]


@dataclass(frozen=True, slots=True)
class Reading:
    """The judgements of two readers about one id number. The second one saw no judgement of the first."""

    number: int
    first: dict[Category, Judgement]
    second: dict[Category, Judgement]
    decision: str
    """Why the table says what it says, where the two differ."""


@cache
def findings() -> tuple[Finding, ...]:
    """The instances that are not sound, by id number and category."""
    lines = files("envtune.data").joinpath("audit.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(_finding(json.loads(line)) for line in lines)


@cache
def readings() -> tuple[Reading, ...]:
    """Both readings of every id number that was read twice."""
    lines = files("envtune.data").joinpath("audit_readings.csv").read_text(encoding="utf-8").splitlines()
    return tuple(
        Reading(int(row["number"]), _judgements(row["first"]), _judgements(row["second"]), row["decision"])
        for row in csv.DictReader(lines)
    )


@cache
def unsound() -> frozenset[str]:
    """Ids of the instances that are not sound."""
    return frozenset(finding.task_id for finding in findings())


def is_sound(task_id: str) -> bool:
    """Whether an instance of the benchmark is sound. Tasks of other sources always are."""
    return task_id not in unsound()


def sound(tasks: Sequence[Task]) -> list[Task]:
    """The sound tasks, in the order given."""
    return [task for task in tasks if is_sound(task.id)]


def _finding(line: dict[str, Any]) -> Finding:
    return Finding(
        line["id"],
        Judgement(line["verdict"]),
        Fault(line["kind"]),
        line["reason"],
        line["issue"],
        tuple(tuple(turn) for turn in line["alternative"]),
    )


def _judgements(text: str) -> dict[Category, Judgement]:
    """`sound`, or `guess base miss_func; unreachable miss_param`. A category that is not named is sound."""
    found = dict.fromkeys(Category, Judgement.SOUND)
    for part in text.split(";"):
        judgement, *categories = part.split()
        found |= {Category(name): Judgement(judgement) for name in categories or list(Category)}
    return found
