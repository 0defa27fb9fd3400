"""What the records look like in Jupyter: complete, escaped, without script."""

from __future__ import annotations

from html.parser import HTMLParser

from IPython.core.interactiveshell import InteractiveShell

import envtune
from envtune.chat import render_calls
from envtune.display.lists import MOST, register, sequence_view
from envtune.environment.hints import Hint
from envtune.training.plan import Plan
from envtune.training.recipes import RECIPES
from envtune.types import ToolCall


class Outline(HTMLParser):
    """Collects tags and checks that they nest."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text = [], set(), ""
        self.feed(html.partition("</style>")[2] or html)
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


def test_every_record_has_a_display_and_one_line_of_text(tasks, subtests):
    env = envtune.ToolUseEnv(tasks[0], hints=True)
    first = env.reset()
    seen = env.step(render_calls([ToolCall("cd", {"directory": "<b>"})]))
    env.step("no")
    stages = RECIPES["laptop"].stages
    played = envtune.evaluate(envtune.load_policy("oracle"), tasks[:2], progress=False)
    wanted = {
        "32 tools · the agent is next": (first, "authenticate_twitter"),
        "observation · 1 message": (seen, "Repeat cd with folder only"),
        "tool result · an error": (env.episode.steps[0].results[0], "Repeat cd with folder only"),
        "step · tool error · 1 call": (env.episode.steps[0], "cd(directory='<b>')"),
        "turn · not correct · 2 steps": (env.episode.turns[0], "state ✗"),
        "hint · rule r<1> · offers ls": (Hint("r<1>", "Call <ls>.", ("ls",)), "Call <ls>."),
        "stage · hints (36 steps)": (stages[1], "600"),
        "recipe laptop · syntax (4 steps) → hints": (RECIPES["laptop"], "1 to 0.5 over 0% to 100%"),
        "plan to train tiny": (Plan(stages, "tiny"), "validate_tasks"),
        "multi_turn_base_1 · base · success": (played.rows[1], "user"),
        "oracle · 2 tasks · multi_turn_base_0 to multi_turn_base_1": (played, "100.0%"),
    }
    for line, (record, told) in wanted.items():
        with subtests.test(line):
            outline = Outline(record._repr_html_())
            assert told in outline.text
            assert {"script", "b"}.isdisjoint(outline.tags)
            assert line in record._view_().line


def test_ipython_shows_lists_of_records_and_leaves_other_lists_alone(tasks):
    shell = InteractiveShell.instance()
    try:
        register()
        html, text = (shell.display_formatter.format(tasks)[0][kind] for kind in ("text/html", "text/plain"))
        assert type(tasks) is list
        assert "800 tasks · 200 base · 200 miss_func · 200 miss_param · 200 long_context" in html
        assert Outline(html).text.count("multi_turn_base") == MOST and f"… {800 - MOST} more" in html
        assert "<multi_turn_base_0 · base · 4 turns · TwitterAPI, GorillaFileSystem · 32 tools>" in text
        assert "text/html" in shell.display_formatter.format(tuple(tasks[:2]))[0]
        for other in ([], [1, 2], [tasks[0], 1], (), ["<b>"]):
            assert list(shell.display_formatter.format(other)[0]) == ["text/plain"]
    finally:
        InteractiveShell.clear_instance()


def test_a_label_stands_above_what_it_folds(tasks):
    view = envtune.display.folded("early <b>", tasks[0])
    html = view._repr_html_()
    assert html.index("<summary>early &lt;b&gt;</summary>") < html.index("multi_turn_base_0")
    assert "<details>" in html
    assert "<details open>" in envtune.display.folded("early", tasks[0], unfolded=True).html


def test_a_list_of_one_kind_is_numbered(tasks):
    assert sequence_view([1]) is None
    assert '<th scope="row">1</th>' in sequence_view(tasks[:2]).html
