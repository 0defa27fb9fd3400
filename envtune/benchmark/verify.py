"""Does the environment say what the benchmark says? `envtune verify` in one function.

In: tasks. Out: a `Report`. Every ground truth is replayed with and without hints. On perturbed trajectories, verdicts
and result strings are compared with the official checker and executor. A difference is either explained by a named
departure of `environment.simulator`, or it is a failure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import ItemsView, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from envtune import rewards
from envtune.benchmark import official
from envtune.environment import replay
from envtune.policy.noise import Noise, perturb
from envtune.types import JSON, Episode, Task, ToolCall

NOISE_LEVELS = (0.1, 0.3, 0.6)
"""Shares of changed calls, in turn, so that trajectories range from almost correct to hopeless."""
CAUSES = ("guarded call", "rewritten text", "shared defaults")
"""The departures named in `environment.simulator`."""


@dataclass
class Report:
    """Counts of the comparisons, and every unexplained difference in words."""

    ground_truths: int = 0
    trajectories: Counter[str] = field(default_factory=Counter)
    """By category."""
    results: int = 0
    verdicts: Counter[bool] = field(default_factory=Counter)
    """Official verdicts on the perturbed trajectories: both values must occur for the check to mean anything."""
    explained: Counter[str] = field(default_factory=Counter)
    """Trajectories with a difference, by the departure that explains it."""
    failures: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is unexplained."""
        return not self.failures

    def table(self) -> pd.DataFrame:
        """The checks, how often each was made, and the results."""
        rows = [("ground truths replayed, hints off and on", self.ground_truths)]
        rows += [(f"perturbed trajectories, {category}", n) for category, n in self.trajectories.items()]
        rows += [("... of these right by the official verdict", self.verdicts[True])]
        rows += [("result strings compared with the official executor", self.results)]
        rows += [(f"trajectories with a difference explained by: {cause}", self.explained[cause]) for cause in CAUSES]
        rows += [("unexplained differences", len(self.failures))]
        return pd.DataFrame(rows, columns=["check", "count"])


def verify(tasks: Sequence[Task], trajectories: int = 5600, seed: int = 0, progress: bool = True) -> Report:
    """Replay every ground truth with hints on and off, then compare perturbed trajectories with the official code.

    Args:
        tasks: the instances. Trajectories use them in turn.
        trajectories: how many perturbed trajectories to compare.
        seed: of the perturbations.
        progress: show a progress bar.
    """
    report = Report()
    for task in tqdm(tasks, desc="ground truth", disable=not progress):
        _check_ground_truth(task, report)
    for i in tqdm(range(trajectories), desc="perturbed trajectories", disable=not progress):
        task = tasks[i % len(tasks)]
        noise = Noise.level(NOISE_LEVELS[i // len(tasks) % len(NOISE_LEVELS)])
        report.trajectories[task.category] += 1
        _compare(task, perturb(task, noise, seed + i // len(tasks)), report)
    _check_departures(tasks, report)
    return report


DEPARTURES = {
    "guarded call": [ToolCall("print", {"x": 1})],
    "rewritten text": [ToolCall("post_tweet", {"content": "see note (a)"})],
    "shared defaults": [
        ToolCall("post_tweet", {"content": "one"}),
        ToolCall("mention", {"tweet_id": 3, "mentioned_usernames": ["@ann"]}),
        ToolCall("post_tweet", {"content": "two"}),
    ],
}
"""Calls that demonstrate each departure."""


def _check_departures(tasks: Sequence[Task], report: Report) -> None:
    """Check on the first task with a logged-in poster whose next tweet is number 3. Without one, nothing is checked."""
    wanted = {"authenticated": True, "tweet_counter": 3}.items()
    task = next((task for task in tasks if wanted <= _simple(task.initial_config.get("TwitterAPI", {}))), None)
    if task is None:
        return
    for cause, calls in DEPARTURES.items():
        before = report.explained[cause]
        _compare(task, [[calls], *([[]] * (task.n_turns - 1))], report)
        if report.explained[cause] != before + 1:
            report.failures.append(f"{task.id}: the departure {cause!r} did not show")


def _simple(config: JSON) -> ItemsView[str, Any]:
    """The entries that are not containers."""
    return {name: value for name, value in config.items() if isinstance(value, int | str)}.items()


def _check_ground_truth(task: Task, report: Report) -> None:
    """Played on a copy of the task, for which no run is recorded yet: every call runs, every state is compared."""
    report.ground_truths += 1
    turns = [[[call] for call in turn] for turn in task.ground_truth]
    expected = [text for turn in official.results(task, turns) for step in turn for text in step]
    for hints in (False, True):
        episode = replay(replace(task), turns, hints=hints)
        scores = {
            "progress": rewards.progress(episode),
            "binary": rewards.binary(episode),
            "syntax": rewards.syntax(episode),
        }
        wanted = {"progress": 1.0, "binary": 1.0, "syntax": 2.0}
        if not (episode.success and episode.strict_success and scores == wanted):
            report.failures.append(f"{task.id}: its ground truth replays to {scores}, hints {'on' if hints else 'off'}")
        if not hints and [result.text for step in episode.steps for result in step.results] != expected:
            report.failures.append(f"{task.id}: its ground truth's results are not the official ones")
    if not official.verdict(task, turns).valid:
        report.failures.append(f"{task.id}: the official checker refuses its ground truth")


def _compare(task: Task, turns: official.Calls, report: Report) -> None:
    episode = replay(task, turns)
    verdict = official.verdict(task, turns)
    expected = [text for turn in official.results(task, turns) for step in turn for text in step]
    found = [result.text for step in episode.steps for result in step.results]
    report.results += len(found)
    report.verdicts[verdict.valid] += 1
    differences = [
        f"result {i}: official {a!r}, ours {b!r}"
        for i, (a, b) in enumerate(zip(expected, found, strict=True))
        if not same_text(a, b)
    ]
    if verdict.valid != episode.success:
        differences.append(f"verdict: official {verdict}, ours {episode.success}")
    if differences:
        cause = departure(task, turns, episode)
        if cause:
            report.explained[cause] += 1
        else:
            report.failures.append(f"{task.id}: {differences[0]}")


def same_text(official: str, ours: str) -> bool:
    """Whether two results are equal, a printed set in any order: the official one depends on the hash seed."""
    if official == ours or not re.search(r"Invalid fields for update: |Must be one of \{", official):
        return official == ours
    words = [sorted(re.findall(r'[^\s,{}"]+', text)) for text in (official, ours)]
    return words[0] == words[1]


def departure(task: Task, turns: official.Calls, episode: Episode) -> str | None:
    """The named departure of `environment.simulator` that touches these calls, if any."""
    if episode.counts.guarded_calls:
        return "guarded call"
    if official.rewrites_text(task, turns) or official.rewrites_text(task, [[turn] for turn in task.ground_truth]):
        return "rewritten text"
    names = {call.name for turn in turns for step in turn for call in step}
    return "shared defaults" if {"post_tweet", "mention"} <= names else None
