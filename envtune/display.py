"""How Jupyter shows a `Task` and an `Episode`: a conversation as an HTML table, everything escaped, no script.

The table reads well without a style sheet. The reports add one for the class names used here (all begin with `et-`).
Importing this module gives both records their `_repr_html_`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape

from envtune.chat import parse_reply
from envtune.rewards import REWARDS
from envtune.types import Episode, Step, StepKind, Task, ToolCall, ToolResult, Turn

LONG = 400
"""Texts longer than this many characters are folded."""


def episode_html(episode: Episode) -> str:
    """The conversation of an episode: calls, results, hints, and the verdict and progress reward of each turn."""
    rows = [row for number, turn in enumerate(episode.turns, 1) for row in _turn_rows(turn, number, episode.n_turns)]
    verdict = "success" if episode.success else "failed"
    facts = [
        f"<strong>{escape(episode.task_id)}</strong>",
        escape(episode.category),
        f'<span class="et-{verdict}">{verdict}</span>',
        f"{len(episode.turns)} of {episode.n_turns} turns, {episode.stop.replace('_', ' ')}",
        f"hints {'on' if episode.hints else 'off'}" + (", turn feedback on" if episode.turn_feedback else ""),
        *(f"{name} {score(episode):.2f}" for name, score in REWARDS.items()),
    ]
    return _table(" · ".join(facts), rows)


def task_html(task: Task) -> str:
    """The script of a task: user turns, and under each the calls that solve it."""
    rows = []
    for index, (user, calls) in enumerate(zip(task.user_turns, task.ground_truth, strict=True)):
        if handed_over := task.withheld.get(index):
            names = ", ".join(tool["function"]["name"] for tool in handed_over)
            rows.append(_row("user", f"<em>hands over the withheld tools: {escape(names)}</em>"))
        else:
            rows.append(_row("user", _text(user)))
        solution = "<br>".join(_call(call) for call in calls) or "<em>no call</em>"
        rows.append(_row("truth", solution))
    facts = [
        f"<strong>{escape(task.id)}</strong>",
        escape(task.category),
        f"{task.n_turns} turns",
        escape(", ".join(task.involved_classes)),
        f"{len(task.tools)} tools",
    ]
    return _table(" · ".join(facts), rows)


def _turn_rows(turn: Turn, number: int, n_turns: int) -> Iterator[str]:
    yield _row("user", _text(turn.user))
    for step in turn.steps:
        yield _row("agent", _step(step))
        for result in step.results:
            yield _row("error" if result.error else "tool", _result(result))
    marks = [f"turn {number}", f"state {_mark(turn.state_ok)}", f"responses {_mark(turn.response_ok)}"]
    if turn.abstained is not None:
        marks.append(f"abstained {_mark(turn.abstained)}")
    marks.append(f"progress +{turn.correct / n_turns:.2f}")
    yield _row("verdict", " · ".join(marks))


def _step(step: Step) -> str:
    if step.kind is StepKind.FORMAT_ERROR and step.format_error is not None:
        return f"{_text(step.text)}<br><em>not parsed: {escape(step.format_error.message)}</em>"
    if step.kind is StepKind.ANSWER:
        return _text(step.text) or "<em>ends the turn</em>"
    words = _text(parse_reply(step.text).text)
    return "<br>".join([words] * bool(words) + [_call(call) for call in step.calls])


def _result(result: ToolResult) -> str:
    if result.hint is None:
        return f"<code>{_text(result.text)}</code>"
    shown = {name: value for name, value in json.loads(result.text).items() if name != "hint"}
    hint = f'<div class="et-hint"><strong>hint:</strong> {escape(result.hint)}</div>'
    return f"<code>{_text(json.dumps(shown))}</code>{hint}"


def _call(call: ToolCall) -> str:
    arguments = ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())
    return f"<code>{_text(f'{call.name}({arguments})')}</code>"


def _text(text: str) -> str:
    if len(text) <= LONG:
        return escape(text)
    return (
        f"<details><summary>{escape(text[:LONG])} <em>({len(text):,} characters)</em></summary>{escape(text)}</details>"
    )


def _mark(good: bool) -> str:
    return '<span class="et-success">✓</span>' if good else '<span class="et-failed">✗</span>'


def _row(kind: str, content: str) -> str:
    who = {"truth": "ground truth", "verdict": "verdict", "error": "tool error"}.get(kind, kind)
    return f'<tr class="et-{kind}"><th scope="row">{who}</th><td>{content}</td></tr>'


def _table(caption: str, rows: list[str]) -> str:
    return f'<table class="et-conversation"><caption>{caption}</caption><tbody>{"".join(rows)}</tbody></table>'


setattr(Episode, "_repr_html_", episode_html)  # noqa: B010  types.py imports nothing of ours
setattr(Task, "_repr_html_", task_html)  # noqa: B010
