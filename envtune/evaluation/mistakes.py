"""Which kind of mistake lost a turn, read from the episode and the task's ground truth, without running a tool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import pandas as pd

from envtune import rewards
from envtune.types import Category, Episode, StepKind, Task


class Mistake(StrEnum):
    """The first that applies, in this order."""

    NOT_PLAYED = "never reached", "the episode ended in an earlier turn"
    FORMAT = "unreadable message", "the turn ended with a message that could not be parsed"
    STEP_LIMIT = (
        "step limit",
        "the agent did not end the turn: too many tool steps in the turn, or too many messages in the episode",
    )
    EARLIER = "lost in an earlier turn", "the state already differed from the ground truth when the turn began"
    NO_CALL = "no call", "calls were expected and none was made"
    WRONG_TOOL = (
        "another tool than needed",
        "a needed tool was called too rarely, and a tool that is not needed was called",
    )
    MISSING_TOOL = (
        "a needed tool not called",
        "a needed tool was called too rarely, and no other tool instead",
    )
    VALUE = "a wrong value", "the needed tools were called often enough, but not with the right values"
    NEEDLESS = "a needless call", "the needed calls were made, or none was expected, but another call did harm"

    meaning: str
    """The meaning in words."""

    def __new__(cls, name: str, meaning: str) -> Self:
        """A string that knows its meaning."""
        mistake = str.__new__(cls, name)
        mistake._value_ = name
        mistake.meaning = meaning
        return mistake


def lost_by(task: Task, episode: Episode, index: int) -> Mistake | None:
    """The mistake that lost turn `index`. None if the turn is correct."""
    if index >= len(episode.turns):
        return Mistake.NOT_PLAYED
    turn = episode.turns[index]
    if turn.correct:
        return None
    if turn.steps and turn.steps[-1].kind is StepKind.FORMAT_ERROR:
        return Mistake.FORMAT
    if turn.steps and turn.steps[-1].calls:
        return Mistake.STEP_LIMIT
    if not all(earlier.state_ok for earlier in episode.turns[:index]):
        return Mistake.EARLIER
    due = task.ground_truth[index]
    made = [call for step in turn.steps for call in step.calls]
    if due and not made:
        return Mistake.NO_CALL
    needed, used = Counter(call.name for call in due), Counter(call.name for call in made)
    if needed - used:
        return Mistake.WRONG_TOOL if used.keys() - needed.keys() else Mistake.MISSING_TOOL
    return Mistake.VALUE if any(made.count(call) < due.count(call) for call in due) else Mistake.NEEDLESS


def mistake_frame(episodes: Sequence[Episode], tasks: Sequence[Task]) -> pd.DataFrame:
    """User turns by the mistake that lost them: a row per category and `all`, a column per mistake, and `turns`.

    Args:
        episodes: of an evaluation on `tasks`.
        tasks: in any order.
    """
    by_id = {task.id: task for task in tasks}
    rows: dict[str, Counter[str]] = {}
    for episode in episodes:
        for turn in range(episode.n_turns):
            mistake = lost_by(by_id[episode.task_id], episode, turn)
            for group in (str(episode.category), "all"):
                rows.setdefault(group, Counter()).update(["turns", *([str(mistake)] if mistake else [])])
    order = [*(str(c) for c in Category if c in rows), "all"]
    frame = pd.DataFrame([rows[name] for name in order], index=pd.Index(order, name="category"))
    return frame.reindex(columns=["turns", *map(str, Mistake)]).fillna(0).astype(int)


def explained(counts: pd.DataFrame) -> pd.DataFrame:
    """The table, one row per mistake, with a column that says what it means, empty for other rows."""
    meanings = {str(mistake): mistake.meaning for mistake in Mistake}
    return counts.assign(meaning=[meanings.get(name, "") for name in counts.index])


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed episode and why."""

    mistake: Mistake
    turn: int
    """Index of the turn that lost the episode."""
    episode: Episode


def failure(task: Task, episode: Episode) -> Failure | None:
    """The failure of an episode: the mistake in the first turn that the verdict counts and that is not correct.

    The verdict counts the turns that expect calls, and a turn that the agent did not end.
    """
    if episode.success:
        return None
    for turn, due in enumerate(task.ground_truth):
        mistake = lost_by(task, episode, turn)
        if mistake and (due or mistake is Mistake.STEP_LIMIT):
            return Failure(mistake, turn, episode)
    return Failure(Mistake.NOT_PLAYED, len(episode.turns), episode)  # cut off before turns that expect no call


def instructive(episodes: Sequence[Episode], tasks: Sequence[Task], n: int = 10) -> list[Failure]:
    """The most instructive failed episodes, at most `n`.

    The rule takes one episode for every mistake in every category. It prefers some progress before the mistake, then
    the fewest messages, then task order. The kinds of mistake take turns, the commonest first, each with its commonest
    category first.
    """
    by_id = {task.id: task for task in tasks}
    failed = [found for e in episodes if (found := failure(by_id[e.task_id], e))]
    mistakes = Counter(found.mistake for found in failed)
    groups = Counter((found.mistake, found.episode.category) for found in failed)
    best: dict[tuple[Mistake, Category], Failure] = {}
    for found in sorted(failed, key=lambda f: (rewards.progress(f.episode) == 0, len(f.episode.steps))):
        best.setdefault((found.mistake, found.episode.category), found)
    rank: Counter[Mistake] = Counter()
    order = []
    for (mistake, category), _ in groups.most_common():
        order.append((rank[mistake], -mistakes[mistake], best[mistake, category]))
        rank[mistake] += 1
    return [found for *_, found in sorted(order, key=lambda item: item[:2])[:n]]
