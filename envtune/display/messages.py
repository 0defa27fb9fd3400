"""Views of what is said in an episode: tasks, episodes, turns, steps, results, observations, hints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any, Protocol

from envtune.chat import parse_reply
from envtune.display.view import View, count, row, shown, strong, text
from envtune.rewards import REWARDS
from envtune.types import JSON, Episode, Message, Step, StepKind, Task, ToolCall, ToolResult, Turn


def task_html(task: Task) -> str:
    """The script of a task: user turns, and under each the calls that solve it."""
    return task_view(task).html


def episode_html(episode: Episode) -> str:
    """The conversation of an episode: calls, results, hints, and the verdict and progress reward of each turn."""
    return episode_view(episode).html


def task_view(task: Task) -> View:
    """The script of a task: user turns, and under each the calls that solve it."""
    rows = []
    for index, (user, calls) in enumerate(zip(task.user_turns, task.ground_truth, strict=True)):
        if handed_over := task.withheld.get(index):
            names = ", ".join(tool["function"]["name"] for tool in handed_over)
            rows.append(row("user", f"<em>hands over the withheld tools: {escape(names)}</em>"))
        else:
            rows.append(row("user", text(user)))
        rows.append(row("truth", "<br>".join(map(_call, calls)) or "<em>no call</em>"))
    facts = [
        strong(task.id),
        escape(task.category),
        count(task.n_turns, "turn"),
        escape(", ".join(task.involved_classes)),
        count(len(task.tools), "tool"),
    ]
    return View(facts, "".join(rows))


def episode_view(episode: Episode) -> View:
    """The conversation of an episode: calls, results, hints, and the verdict and progress reward of each turn."""
    rows = [line for number, turn in enumerate(episode.turns, 1) for line in _turn_rows(turn, number, episode.n_turns)]
    verdict = "success" if episode.success else "failed"
    facts = [
        strong(episode.task_id),
        escape(episode.category),
        f'<span class="et-{verdict}">{verdict}</span>',
        f"{len(episode.turns)} of {count(episode.n_turns, 'turn')}, {episode.stop.replace('_', ' ')}",
        f"hints {'on' if episode.hints else 'off'}" + (", turn feedback on" if episode.turn_feedback else ""),
        *(f"{name} {score(episode):.2f}" for name, score in REWARDS.items()),
    ]
    return View(facts, "".join(rows) or row("verdict", "<em>nothing was played</em>"))


def turn_view(turn: Turn) -> View:
    """One turn of a conversation."""
    facts = [strong("turn"), "correct" if turn.correct else "not correct", count(len(turn.steps), "step")]
    return View(facts, "".join(_turn_rows(turn)))


def step_view(step: Step) -> View:
    """One message of the agent, and what came back."""
    facts = [strong("step"), step.kind.replace("_", " "), count(len(step.calls), "call")]
    return View(facts, "".join(_step_rows(step)))


def result_view(result: ToolResult) -> View:
    """What came back from one call."""
    facts = [strong("tool result"), "an error" if result.error else "no error"]
    facts += [name for name, said in {"guarded": result.guarded, "unknown tool": result.unknown_tool}.items() if said]
    return View(facts, _result_row(result))


class _Hint(Protocol):
    rule: str
    text: str
    tools: tuple[str, ...]


def hint_view(hint: _Hint) -> View:
    """What the agent reads, and the rule behind it."""
    offered = f"offers {', '.join(hint.tools)}" if hint.tools else "offers no tool"
    return View(
        [strong("hint"), f"rule {escape(hint.rule)}", escape(offered)],
        row("hint", f'<div class="et-hint">{escape(hint.text)}</div>'),
    )


class _Observation(Protocol):
    messages: tuple[Message, ...]
    tools: tuple[JSON, ...]
    done: bool
    recompiled: bool


def observation_view(seen: _Observation) -> View:
    """The messages to append, and the tools by name."""
    facts = [strong("observation"), count(len(seen.messages), "message"), count(len(seen.tools), "tool")]
    facts.append("the episode has ended" if seen.done else "the agent is next")
    facts += ["the tool list has changed"] * seen.recompiled
    rows = [_message(message) for message in seen.messages]
    functions = [tool["function"] for tool in seen.tools]
    names = ", ".join(function["name"] for function in functions)
    about = [(escape(function["name"]), escape(str(function.get("description", "")))) for function in functions]
    told = "".join(f"<li><code>{name}</code> {what}</li>" for name, what in about)
    tools = f"<details><summary>{escape(names)}</summary><ul>{told}</ul></details>" if names else "<em>none</em>"
    return View(facts, "".join([*rows, row("tools", tools)]))


def _message(message: Message) -> str:
    who, said = str(message["role"]), text(str(message["content"]))
    return row(who, f"<code>{said}</code>" if who == "tool" else said)


def _turn_rows(turn: Turn, number: int = 0, n_turns: int = 0) -> Iterator[str]:
    yield row("user", text(turn.user))
    for step in turn.steps:
        yield from _step_rows(step)
    marks = [f"state {_mark(turn.state_ok)}", f"responses {_mark(turn.response_ok)}"]
    if turn.abstained is not None:
        marks.append(f"abstained {_mark(turn.abstained)}")
    if number:
        marks = [f"turn {number}", *marks, f"progress +{turn.correct / n_turns:.2f}"]
    yield row("verdict", " · ".join(marks))


def _step_rows(step: Step) -> Iterator[str]:
    yield row("agent", _said(step))
    yield from map(_result_row, step.results)


def _said(step: Step) -> str:
    if step.kind is StepKind.FORMAT_ERROR and step.format_error is not None:
        return f"{text(step.text)}<br><em>not parsed: {escape(step.format_error.message)}</em>"
    if step.kind is StepKind.ANSWER:
        return text(step.text) or "<em>ends the turn</em>"
    words = text(parse_reply(step.text).text)
    return "<br>".join([words] * bool(words) + [_call(call) for call in step.calls])


def _result_row(result: ToolResult) -> str:
    kind = "error" if result.error else "tool"
    if result.hint is None:
        return row(kind, f"<code>{text(result.text)}</code>")
    raw = {name: value for name, value in json.loads(result.text).items() if name != "hint"}
    hint = f'<div class="et-hint">{strong("hint:")} {escape(result.hint)}</div>'
    return row(kind, f"<code>{text(json.dumps(raw))}</code>{hint}")


def _call(call: ToolCall) -> str:
    arguments = ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())
    return f"<code>{text(f'{call.name}({arguments})')}</code>"


def _mark(good: bool) -> str:
    return '<span class="et-success">✓</span>' if good else '<span class="et-failed">✗</span>'


VIEWS: dict[type, Any] = {
    Task: task_view,
    Episode: episode_view,
    Turn: turn_view,
    Step: step_view,
    ToolResult: result_view,
}
for _kind, _view in VIEWS.items():  # types.py imports nothing of ours, so its records get their views here
    shown(_view)(_kind)
