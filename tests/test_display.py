"""What a task and an episode look like in Jupyter: complete, escaped, without script."""

from __future__ import annotations

from html.parser import HTMLParser

import envtune
from envtune.chat import render_calls
from envtune.types import ToolCall


class Outline(HTMLParser):
    """Collects tags and checks that they nest."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text = [], set(), ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_a_task_shows_its_script(tasks):
    for task in tasks[::40]:
        outline = Outline(task._repr_html_())
        for user, calls in zip(task.user_turns, task.ground_truth, strict=True):
            assert user in outline.text
            assert all(call.name in outline.text for call in calls)


def test_an_episode_shows_calls_results_hints_and_verdicts(tasks):
    env = envtune.ToolUseEnv(tasks[0], hints=True)
    env.step(render_calls([ToolCall("cd", {"directory": "document"})]))
    env.step("Let me look. " + render_calls([ToolCall("ls", {})]))
    env.step("I could not <b>do</b> it")
    env.step('<tool_call>{"name": "<script>alert(1)</script>", "arguments": {}}</tool_call>')
    env.step("<tool_call>{</tool_call><script>alert(2)</script>")
    html = env.episode._repr_html_()
    outline = Outline(html)
    assert {"script", "b", "img"}.isdisjoint(outline.tags)
    for words in (
        "cd(directory='document')",
        "Repeat cd with folder only",
        "I could not <b>do</b> it",
        "turn 1 · state",
        "not parsed",
    ):
        assert words in outline.text
    assert "alert(1)" in outline.text
    assert "Let me look." in outline.text
    hint = env.episode.steps[0].results[0].hint
    assert outline.text.count(hint) == 1


def test_long_texts_are_folded(by_id):
    env = envtune.ToolUseEnv(by_id["multi_turn_long_context_0"])
    env.step(render_calls([ToolCall("cd", {"folder": "archive"}), ToolCall("ls", {})]))
    assert "details" in Outline(env.episode._repr_html_()).tags
