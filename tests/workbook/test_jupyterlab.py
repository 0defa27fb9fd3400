"""What a reader sees in a real JupyterLab, in a light and in a dark theme, and after an interrupt."""

from __future__ import annotations

import pytest
from lab import KERNEL, finish, open_lab, run_all, set_theme
from pages import hard_to_read

pytestmark = [pytest.mark.slow, pytest.mark.browser]

BEGIN = """
import threading
import pandas as pd
from matplotlib import pyplot as plt
import envtune
from envtune import workbook
from envtune.environment.hints import Hint
from envtune.training import metrics, recipes
from envtune.training.plan import Plan
from envtune.workbook.live import Live
from stub_chapters import ALPHA
nb = workbook.begin(ALPHA, run="look", results="results", seed=0, n=2, rate=0.1)
tasks = envtune.load_tasks("synth", n=8)
env = envtune.ToolUseEnv(tasks[0], hints=True)
stages = recipes.stages_of("laptop", [], {})
env.reset()
"""
PLAY = """
env.step('<tool_call>{"name": "no_such_tool", "arguments": {}}</tool_call>')
env.step("I could not.")
"""
RECORDS = ["env.episode", "env.episode.turns[0]", "env.episode.steps[0]", "env.episode.steps[0].results[0]"]
RECORDS += ["tasks", "tasks[0]", "Hint('rule', 'Call ls.', ('ls',))", "stages[0]", "recipes.RECIPES['laptop']"]
RECORDS += ["Plan(stages, 'tiny')", "envtune.evaluate(envtune.load_policy('oracle'), tasks[:4], progress=False)"]
RECORDS += ["envtune.display.folded('A label', env.episode)"]
SHOW = """
nb.table(pd.DataFrame({"name": ["a b"], "share": [0.5]}), "small", caption="A caption with `code`.")
nb.table(pd.DataFrame({f"column {i}": ["x" * 30] for i in range(12)}), "wide", caption="Wide.")
fig, ax = plt.subplots()
nb.figure(fig, "empty", alt="An empty figure", caption="Nothing.")
nb.finish(headline="It was 1.", detail="As counted.", results=[workbook.Finding("What", 0.5)], one=1)
"""
CONTROL = """
from IPython.display import HTML
HTML('<table class="control"><tr><td style="color: #777; background: #888">x</td></tr></table>')
"""
WAIT = """
plan = Plan(stages[:2], "tiny")
with Live(plan, nb.folder, every=0) as live:
    for step in range(3):
        line = {"stage": 0, "name": "syntax", "step": step, "reward": 0.5, "progress": 0.2}
        metrics.append(nb.path("metrics.jsonl"), line)
        live.show(env.episode)
        live(line)
    threading.Event().wait()
"""
ERROR = "[data-mime-type$='.error'], [data-mime-type$='.stderr']"
OURS = ".et-conversation, .et-record, .wb-table, .wb-answer, .wb-figure"


def test_jupyterlab_shows_what_the_reports_show(browser, project, subtests):
    cells = [BEGIN, PLAY, *RECORDS, SHOW, CONTROL, WAIT, "print('the next cell')"]
    with open_lab(browser, project.root, cells) as page:
        run_all(page)
        page.wait_for_selector(f".wb-live img, {ERROR}", timeout=60_000)
        assert page.locator(ERROR).all_inner_texts() == []
        for theme in ("JupyterLab Light", "JupyterLab Dark"):
            with subtests.test(theme):
                set_theme(page, theme)
                assert hard_to_read(page, OURS) == []
                assert len(hard_to_read(page, ".control")) == 2, "JupyterLab's own rules and a pale colour are seen"
        live = page.locator(".wb-live", has_text="stage 1 of 2, syntax: step 2 of 4")
        live.wait_for()
        shown = live.inner_text()
        for words in ("a minute left", "What to expect", "no_such_tool"):
            assert words in shown
        page.evaluate(f"{KERNEL}.interrupt()")
        *before, stopped, following = finish(page)
        assert all(cell["shown"] for cell in before[: 2 + len(RECORDS)]), "each record has a display"
        assert stopped["text"].strip() == (
            "Stopped at step 2 of 4 in stage syntax: run this cell again to go on from step 0, the last that was saved."
        )
        assert following["ran"] is None
