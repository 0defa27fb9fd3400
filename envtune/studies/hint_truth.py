"""Are hints true? `python -m envtune.studies.hint_truth --failures 50000` follows each one and looks.

In: a number of failures and a seed. Out: a table by kind of failure. For every failure (`studies.wrong_calls`) and
both strengths four things are checked, none of them with the rules' own code:

- every tool that the hint names is available (`unavailable`);
- its first sentence is true of the simulators, of the schemas or of the call (`untrue`, `studies.hint_claims`);
- an agent that follows it literally does not meet the same failure again (`same failure`, `studies.literal`), and a
  suggested name is one that the unknown name can mean;
- the other calls that the agent makes for it take nothing away (`destroyed`).
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
from scipy.stats import binomtest

from envtune.data import bfcl
from envtune.environment.hints import Hint, Strength, hint
from envtune.studies.hint_claims import holds
from envtune.studies.literal import Outcome, follow
from envtune.studies.wrong_calls import Wrong, wrong_calls
from envtune.types import Task

FAULTS = ("unavailable", "untrue", "same failure", "destroyed")
GOAL = 0.003
"""Largest share of hints that may be faulty."""


@dataclass(frozen=True)
class Checked:
    """A hint and what is wrong with it."""

    family: str
    task_id: str
    rule: str
    strength: Strength
    call: str
    result: str
    text: str
    outcome: str
    faults: tuple[str, ...]


def check(wrong: Wrong, strength: Strength) -> Checked | None:
    """Check the hint for one failure. None if there is no hint."""
    scene = wrong.scene
    found = hint(scene.call, scene.result, wrong.tools, scene.observed, strength=strength)
    if found is None:
        return None
    followed = follow(found.text, scene, wrong.wanted, tool_names())
    faults = []
    if unavailable(found, wrong, followed.named):
        faults.append("unavailable")
    if not holds(found.text, scene) or misfits(found.text, wrong):
        faults.append("untrue")
    if followed.outcome is Outcome.SAME or not _suggests_well(found, wrong):
        faults.append("same failure")
    if followed.destroyed:
        faults.append("destroyed")
    return Checked(
        wrong.family, wrong.task_id, found.rule, strength, str(scene.call), scene.result.text, found.text,
        str(followed.outcome), tuple(faults),
    )  # fmt: skip


def tool_names() -> frozenset[str]:
    """Every tool of the benchmark."""
    global _TOOLS
    if not _TOOLS:
        _TOOLS = frozenset(d["name"] for documents in bfcl.tool_documents().values() for d in documents)
    return _TOOLS


_TOOLS: frozenset[str] = frozenset()


def unavailable(found: Hint, wrong: Wrong, named: Sequence[str]) -> set[str]:
    """The tools that a hint names and the agent does not have. A name in quotes is only mentioned."""
    text = re.sub(r"'[^']*'", "", found.text)
    words = set(re.findall(r"\w+", text)) & tool_names()
    spelled = {word for word in words if "_" in word or not word.islower() or word in _NO_WORDS}
    return ({*spelled, *named} & tool_names()) - wrong.scene.schemas.keys()


_NO_WORDS = frozenset({"cd", "ls", "pwd", "mkdir", "rmdir", "rm", "mv", "cp", "wc", "du", "grep", "cat"})
"""Tool names without an underscore or a capital that are not English words."""


def misfits(text: str, wrong: Wrong) -> list[str]:
    """The tools that a hint says to call with arguments that they do not have."""
    found = []
    for tool, phrase in re.findall(r"[Cc]all (\w+) with ([^.]+?)(?: to | if |, | then |\.)", text):
        properties = wrong.scene.schemas.get(tool, {"parameters": {"properties": None}})["parameters"]["properties"]
        said = _words(phrase)
        if properties == {} or (properties and said and not said & _words(f"{tool} {properties}")):
            found.append(tool)
    return found


def _words(text: str) -> set[str]:
    """The words of a text in lower case and singular, without those that say nothing."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", text)
    return {word.lower().rstrip("s") for word in words} - _EMPTY


_EMPTY_WORDS = "the a of that thi these to and with in for it if i is name each all first receiver"
_EMPTY = frozenset(_EMPTY_WORDS.split())
"""`receiver` is among them, because schemas have other words for this user."""


def _suggests_well(found: Hint, wrong: Wrong) -> bool:
    """Whether a tool suggested for an unknown name is one that the name can mean."""
    if wrong.scene.call.name in wrong.scene.schemas or not found.tools:
        return True
    return bool(wrong.means & set(found.tools)) and (len(found.tools) > 1 or set(found.tools) <= wrong.means)


def checked(tasks: Sequence[Task], failures: int, seed: int = 0) -> Iterator[Checked]:
    """The hints for `failures` failures, at both strengths where they differ."""
    for wrong in wrong_calls(tasks, failures, seed):
        one = check(wrong, Strength.ONE)
        several = check(wrong, Strength.LIST)
        for found in (one, several if several and one and several.text != one.text else None):
            if found is not None:
                yield found


def truth_table(found: Sequence[Checked]) -> pd.DataFrame:
    """One row per kind of failure, and one for all: `failure`, `hints`, the `FAULTS`, `faulty`, `share`, `low`, `high`.

    `share` is that of hints with any fault, with its 95 % Wilson interval. `left to the user`: hints that an agent
    cannot follow by itself.
    """
    rows = []
    families = sorted({one.family for one in found})
    for family in [*families, "all"]:
        part = [one for one in found if family in (one.family, "all")]
        counts = Counter(fault for one in part for fault in one.faults)
        faulty = sum(bool(one.faults) for one in part)
        low, high = binomtest(faulty, len(part)).proportion_ci(method="wilson")
        left = sum(one.outcome == Outcome.LEFT for one in part)
        rows.append(
            {"failure": family, "hints": len(part), "left to the user": left, **{f: counts[f] for f in FAULTS},
             "faulty": faulty, "share": faulty / len(part), "low": low, "high": high}
        )  # fmt: skip
    return pd.DataFrame(rows)


def main() -> None:
    """Print the table, and an example of every faulty rule."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--failures", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.perf_counter()
    found = list(checked(bfcl.load(), options.failures, options.seed))
    print(
        truth_table(found).to_string(index=False, formatters=dict.fromkeys(("share", "low", "high"), "{:.2%}".format))
    )
    faulty = [one for one in found if one.faults]
    for (rule, faults), count in Counter((one.rule, one.faults) for one in faulty).most_common():
        example = next(one for one in faulty if (one.rule, one.faults) == (rule, faults))
        print(f"\n{rule}: {count} x {', '.join(faults)} ({example.family}, {example.task_id}, {example.outcome})")
        print(f"  {example.call[:160]}\n  {example.result[:160]}\n  {example.text}")
    print(f"\n{options.failures:,} failures, seed {options.seed}, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
