"""The same task played twice, side by side: the first picture of the README.

In: two `Episode`s of one task. Out: a matplotlib figure, 8.6 inches wide and as high as the conversation is long. Each
user turn has the user's message across both columns, below it what either agent called and read, then the verdict.
Long texts end with an ellipsis, and long turns show their first and last steps.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from envtune import rewards
from envtune.chat import parse_reply
from envtune.types import Episode, Step, StepKind, ToolCall, Turn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, COLUMN, GUTTER, MARGIN = 8.6, 4.15, 0.1, 0.1
"""Inches."""
LINE, PADDING, GAP = 0.165, 0.09, 0.06
"""Inches: a line of text, the space around a text, the space between two texts."""
CHARACTERS = 55
"""Of fixed width in a line of a column."""
MAX_LINES = 3
FIRST, LAST = 2, 4
"""Steps shown of a turn that has more than both."""


@dataclass(frozen=True)
class Look:
    """How one kind of text is drawn."""

    fill: str
    ink: str = "#222222"
    weight: str = "normal"
    family: str = "DejaVu Sans Mono"
    size: float = 8.0


LOOKS = {
    "title": Look("#ffffff", weight="bold", family="DejaVu Sans", size=11),
    "user": Look("#e8eef7", family="DejaVu Sans", size=9.5),
    "call": Look("#f5f5f5"),
    "result": Look("#eef7ef", ink="#14532d"),
    "error": Look("#fdecea", ink="#8a1c12"),
    "answer": Look("#ffffff", family="DejaVu Sans", size=9),
    "right": Look("#ffffff", ink="#14532d", weight="bold", family="DejaVu Sans", size=9),
    "wrong": Look("#ffffff", ink="#8a1c12", weight="bold", family="DejaVu Sans", size=9),
}
"""Light fills with dark ink; what is right or wrong is also said in words."""

Text = tuple[str, str]
"""A key of `LOOKS` and what is written."""


def conversation(
    before: Episode, after: Episode, titles: tuple[str, str] = ("Before training", "After training")
) -> Figure:
    """Draw two episodes of one task in two columns.

    Args:
        before: drawn on the left.
        after: drawn on the right.
        titles: over the columns.

    Raises:
        ValueError: the episodes are of different tasks.
    """
    from matplotlib.figure import Figure

    if before.task_id != after.task_id:
        raise ValueError(f"two episodes of one task are compared, not {before.task_id} and {after.task_id}")
    left, right = ([("title", title)] for title in titles)
    blocks: list[Block] = [("", left, right), *_turns(before, after)]
    height = sum(map(_block_height, blocks)) + 2 * MARGIN
    figure = Figure(figsize=(WIDTH, height))
    figure.set_layout_engine("none")  # every place below is in inches
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
    axes.set_axis_off()
    top = MARGIN
    for block in blocks:
        _draw_block(axes, top, block)
        top += _block_height(block)
    return figure


def clearest(before: Sequence[Episode], after: Sequence[Episode]) -> int:
    """Index of the task that shows best what was learned.

    Of the tasks that lose one turn before, to a failed call, and no turn after: one of several turns if there is any,
    and of those the one with the fewest steps. Without such a task: the one whose progress grew most.

    Args:
        before: the episodes of one policy.
        after: those of another one on the same tasks, in the same order.
    """
    pairs = list(zip(before, after, strict=True))
    clear = [index for index, pair in enumerate(pairs) if _clear(*pair)]
    if clear:
        return min(clear, key=lambda i: (pairs[i][0].n_turns == 1, sum(len(episode.steps) for episode in pairs[i])))
    grown = [rewards.progress(b) - rewards.progress(a) for a, b in pairs]
    return grown.index(max(grown))


def _clear(before: Episode, after: Episode) -> bool:
    lost = [turn for turn in before.turns if not turn.correct]
    all_played = len(before.turns) == before.n_turns
    failed_call = len(lost) == 1 and any(step.kind is StepKind.TOOL_ERROR for step in lost[0].steps)
    return all_played and failed_call and rewards.binary(after) == 1


Block = tuple[str, list[Text], list[Text]]
"""The user's message (or nothing), and the texts of both columns below it."""


def _turns(before: Episode, after: Episode) -> Iterator[Block]:
    for number, pair in enumerate(zip_longest(before.turns, after.turns), 1):
        user = next(turn.user for turn in pair if turn is not None)
        left, right = (_column(turn, number) for turn in pair)
        yield f"User: {user}", left, right


def _column(turn: Turn | None, number: int) -> list[Text]:
    """What one agent did in a turn, and its verdict."""
    if turn is None:
        return [("wrong", f"Turn {number} not reached")]
    texts = [text for step in _shown(turn.steps) for text in _step(step)]
    verdict = ("right", f"✓ Turn {number} correct") if turn.correct else ("wrong", f"✗ Turn {number} wrong")
    return [*texts, verdict]


def _shown(steps: Sequence[Step]) -> Iterator[Step | int]:
    """The steps to draw; a number says how many are left out there."""
    if len(steps) <= FIRST + LAST:
        yield from steps
        return
    yield from steps[:FIRST]
    yield len(steps) - FIRST - LAST
    yield from steps[-LAST:]


def _step(step: Step | int) -> Iterator[Text]:
    if isinstance(step, int):
        yield "answer", f"… {step} more messages …"
    elif step.kind is StepKind.FORMAT_ERROR:
        yield "error", f"not readable: {step.text}"
    elif step.kind is StepKind.ANSWER:
        yield "answer", f"Agent: {step.text or '(ends the turn)'}"
    else:
        if words := parse_reply(step.text).text:
            yield "answer", f"Agent: {words}"
        for call, result in zip(step.calls, step.results, strict=True):
            yield "call", _call(call)
            yield ("error" if result.error else "result"), f"→ {result.text}"


def _call(call: ToolCall) -> str:
    return f"{call.name}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})"


def _lines(text: Text, columns: int = 1) -> list[str]:
    """The text in lines that fit, the last with an ellipsis if there are too many."""
    look = LOOKS[text[0]]
    characters = int(columns * CHARACTERS * 8 / look.size)
    return textwrap.wrap(text[1], characters, max_lines=MAX_LINES, placeholder=" …") or [""]


def _height(text: Text, columns: int = 1) -> float:
    return len(_lines(text, columns)) * LINE + PADDING + GAP


def _block_height(block: Block) -> float:
    user, *columns = block
    above = _height(("user", user), 2) if user else 0.0
    return above + max(sum(map(_height, texts)) for texts in columns) + 2 * GAP


def _draw_block(axes: Axes, top: float, block: Block) -> None:
    user, *columns = block
    if user:
        _draw(axes, MARGIN, top, ("user", user), 2)
        top += _height(("user", user), 2)
    for i, texts in enumerate(columns):
        y = top
        for text in texts:
            _draw(axes, MARGIN + i * (COLUMN + GUTTER), y, text)
            y += _height(text)


def _draw(axes: Axes, x: float, y: float, text: Text, columns: int = 1) -> None:
    from matplotlib.patches import Rectangle

    look, lines = LOOKS[text[0]], _lines(text, columns)
    width = columns * COLUMN + (columns - 1) * GUTTER
    axes.add_patch(Rectangle((x, y), width, len(lines) * LINE + PADDING, facecolor=look.fill, linewidth=0))
    font: dict[str, Any] = {"family": look.family, "size": look.size, "weight": look.weight, "color": look.ink}
    for i, line in enumerate(lines):
        middle = y + PADDING / 2 + (i + 0.5) * LINE
        axes.text(x + 0.08, middle, line, va="center_baseline", parse_math=False, **font)
