"""Which kind of mistake lost a turn: read from the episode and the task's ground truth, no tool is run."""

from __future__ import annotations

from enum import StrEnum

from envtune.types import Episode, StepKind, StopReason, Task


class Mistake(StrEnum):
    """The first that applies, in this order."""

    NOT_PLAYED = "never reached"
    """The episode ended in an earlier turn."""
    FORMAT = "unreadable message"
    """The turn ended with a message that could not be parsed."""
    STEP_LIMIT = "step limit"
    """The turn held more tool steps than allowed."""
    EARLIER = "lost in an earlier turn"
    """The state was already not the ground truth's when the turn began."""
    NO_CALL = "no call"
    """Calls were due and none was made."""
    MISSING_TOOL = "a needed tool not called"
    """Some tool of the ground truth was not called in this turn."""
    VALUE = "a wrong value"
    """All its tools were called, but not all its calls made."""
    NEEDLESS = "a needless call"
    """All its calls were made, or none was due, and others did harm."""


def lost_by(task: Task, episode: Episode, index: int) -> Mistake | None:
    """What lost turn `index`; None if it is right."""
    if index >= len(episode.turns):
        return Mistake.NOT_PLAYED
    turn = episode.turns[index]
    if turn.correct:
        return None
    if turn.steps and turn.steps[-1].kind is StepKind.FORMAT_ERROR:
        return Mistake.FORMAT
    if episode.stop is StopReason.STEP_LIMIT and index == len(episode.turns) - 1:
        return Mistake.STEP_LIMIT
    if not all(earlier.state_ok for earlier in episode.turns[:index]):
        return Mistake.EARLIER
    due = task.ground_truth[index]
    made = [call for step in turn.steps for call in step.calls]
    if due and not made:
        return Mistake.NO_CALL
    if {call.name for call in due} - {call.name for call in made}:
        return Mistake.MISSING_TOOL
    return Mistake.VALUE if any(call not in made for call in due) else Mistake.NEEDLESS
