"""Is the audit true? `envtune audit` in one function, `envtune audit ID` in another.

In: the table of `data.audit` and the tasks. Out: a `Report` with its counts, the agreement of the two readings, and
every proof that no longer holds. A proof is a replay: the ground truth succeeds, and calls that do as told fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from envtune.benchmark.official import call_string
from envtune.data.audit import Finding, Judgement, Reading, findings, readings
from envtune.data.splits import Split, split_numbers
from envtune.environment import replay
from envtune.types import Category, Task, id_number

LONG = 300
"""Longer texts are shortened in `told`."""


@dataclass(frozen=True)
class Report:
    """The audit, checked."""

    findings: tuple[Finding, ...]
    readings: tuple[Reading, ...]
    failures: tuple[str, ...]
    """What does not hold, in words."""

    def kinds(self) -> pd.DataFrame:
        """Instances by kind: by verdict, by category, in the train split and held out, and id numbers."""
        kinds = dict.fromkeys(finding.kind for finding in self.findings)
        groups = {kind.replace("_", " "): [f for f in self.findings if f.kind is kind] for kind in kinds}
        groups = dict(sorted(groups.items(), key=lambda group: -len(group[1]))) | {"all": list(self.findings)}
        return pd.DataFrame.from_dict({name: _counts(found) for name, found in groups.items()}, orient="index")

    def agreement(self) -> pd.DataFrame:
        """How often two independent readings say the same, over instances: in the three verdicts, and sound or not."""
        pairs = [(r.first[category], r.second[category]) for r in self.readings for category in Category]
        binary = [(a is Judgement.SOUND, b is Judgement.SOUND) for a, b in pairs]
        rows = [_agreement(pairs), _agreement(binary)]
        return pd.DataFrame(rows, index=["sound, guess or unreachable", "sound or not"])


def audit(
    tasks: Sequence[Task],
    found: Sequence[Finding] | None = None,
    read: Sequence[Reading] | None = None,
) -> Report:
    """Run every proof of the table.

    Args:
        tasks: the benchmark's instances.
        found, read: the table and the readings. None: those of the package.
    """
    by_id = {task.id: task for task in tasks}
    chosen = tuple(findings() if found is None else found)
    twice = [task_id for task_id, n in Counter(f.task_id for f in chosen).items() if n > 1]
    failures = [f"{task_id}: listed more than once" for task_id in twice]
    for finding in chosen:
        task = by_id.get(finding.task_id)
        failures += [f"{finding.task_id}: no such instance"] if task is None else problems(finding, task)
    return Report(chosen, tuple(readings() if read is None else read), tuple(failures))


def problems(finding: Finding, task: Task) -> list[str]:
    """Why a proof does not hold. Empty: it holds."""
    try:
        calls = finding.calls(task)
    except ValueError as error:
        return [f"{task.id}: {error}"]
    if len(calls) != task.n_turns:
        return [f"{task.id}: the alternative has {len(calls)} turns, the task {task.n_turns}"]
    gold = [[[call] for call in turn] for turn in task.ground_truth]
    found = []
    if not replay(task, gold).success:
        found.append(f"{task.id}: its ground truth fails")
    if calls == gold:
        found.append(f"{task.id}: the alternative is the ground truth")
    for turn, steps in enumerate(calls):
        on_offer = {tool["function"]["name"] for tool in task.tools_at(turn)}
        names = {call.name for step in steps for call in step} - on_offer
        found += [f"{task.id}: {name} is not on offer in turn {turn}" for name in sorted(names)]
    episode = replay(task, calls)
    failed = sorted({c.name for s in episode.steps for c, r in zip(s.calls, s.results, strict=True) if r.error})
    found += [f"{task.id}: the alternative's call of {name} fails" for name in failed]
    if episode.success:
        found.append(f"{task.id}: the alternative succeeds, so it proves nothing")
    return found


def kappa(pairs: Sequence[tuple[object, object]]) -> float:
    """Cohen's kappa of two readers: 1 is agreement, 0 what chance gives. NaN where chance alone gives agreement."""
    n = len(pairs)
    first, second = (Counter(pair[i] for pair in pairs) for i in (0, 1))
    chance = sum(first[value] * second[value] for value in first) / n**2 if n else 1.0
    return (sum(a == b for a, b in pairs) / n - chance) / (1 - chance) if chance < 1 else float("nan")


def _agreement(pairs: Sequence[tuple[object, object]]) -> dict[str, float]:
    return {"instances": len(pairs), "agree": sum(a == b for a, b in pairs), "kappa": kappa(pairs)}


def _counts(found: Sequence[Finding]) -> dict[str, int]:
    heldout = split_numbers(Split.HELDOUT)
    numbers = [id_number(finding.task_id) for finding in found]
    return (
        {"instances": len(found)}
        | {str(v): sum(f.verdict is v for f in found) for v in (Judgement.UNREACHABLE, Judgement.GUESS)}
        | {str(c): sum(f.task_id == f"multi_turn_{c}_{id_number(f.task_id)}" for f in found) for c in Category}
        | {"train": sum(n not in heldout for n in numbers), "held out": sum(n in heldout for n in numbers)}
        | {"id numbers": len(set(numbers))}
    )


def told(task_id: str, tasks: Sequence[Task]) -> str:
    """One instance in words: the judgement, the reason, and the conversation with both runs of calls.

    Raises:
        ValueError: there is no such instance.
    """
    task = next((task for task in tasks if task.id == task_id), None)
    if task is None:
        raise ValueError(f"unknown task {task_id!r}. The benchmark's tasks are multi_turn_<category>_<0 to 199>")
    finding = next((finding for finding in findings() if finding.task_id == task_id), None)
    gold = [[call_string(call) for call in turn] for turn in task.ground_truth]
    instead = [list(turn) for turn in finding.alternative] if finding else gold
    lines = [*_judged(task, finding), ""]
    for turn, (user, calls, others) in enumerate(zip(task.user_turns, gold, instead, strict=True), start=1):
        handed = ", ".join(tool["function"]["name"] for tool in task.withheld.get(turn - 1, ()))
        lines.append(f"turn {turn}, user: {f'(hands over {handed})' if handed else user}")
        lines += [f"    ground truth  {_short(call)}" for call in calls] or ["    ground truth  no call"]
        if others != calls:
            lines += [f"    alternative   {_short(call)}" for call in others] or ["    alternative   no call"]
    return "\n".join(lines)


def _judged(task: Task, finding: Finding | None) -> list[str]:
    lines = [f"{task.id}: sound"]
    if finding:
        lines = [f"{task.id}: {finding.verdict}, {finding.kind.replace('_', ' ')}", finding.reason]
        lines += [f"reported in {finding.issue}"] if finding.issue else []
        lines += problems(finding, task) or ["The ground truth succeeds, the alternative fails."]
    for reading in readings():
        if reading.number == task.number:
            first, second = (judged[task.category] for judged in (reading.first, reading.second))
            lines.append(f"first reading: {first}, second: {second}. {reading.decision}".strip())
    return lines


def _short(text: str) -> str:
    return text if len(text) <= LONG else f"{text[:LONG]}... ({len(text):,} characters)"
