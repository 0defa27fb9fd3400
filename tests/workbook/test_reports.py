"""Reports: nothing gets in but text, figures and tables; nothing is asked of the network."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from pages import hard_to_read
from stub_project import ALPHA_WORK, ROOT

from envtune.workbook import Finding, report
from envtune.workbook.manifest import read_manifest
from envtune.workbook.mathtext import typeset
from envtune.workbook.overview import BEGIN, END, at_a_glance, update_readme, update_tables, write_index
from envtune.workbook.reading import with_guides
from envtune.workbook.report import body, label, refresh, sanitize, title_and_question

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
FINDING = asdict(Finding("Half | all (baseline: a quarter)", 0.5, 0.25, 0.4, 0.6, 4))
CHAPTERS = ["01_alpha", "02_beta", "03_gamma"]


def shown(**data: str) -> nbformat.NotebookNode:
    data = {name.replace("__", "+").replace("_", "/", 1): value for name, value in data.items()}
    return new_code_cell("secret_source()", outputs=[new_output("display_data", data=data)], execution_count=1)


def notebook(*cells: nbformat.NotebookNode) -> nbformat.NotebookNode:
    return new_notebook(cells=list(cells))


def manifest(name: str, **changes: object) -> dict[str, object]:
    return {
        "notebook": name,
        "run": "tiny",
        "title": f"Title {name}",
        "question": f"What of {name}?",
        "key": "k",
        "answer": {"headline": f"All of {name} | <b>.", "detail": "Of 4.", "results": [FINDING]},
        "parameters": {"seed": 0, "note": "<i>"},
        "seed": 0,
        "code": {"revision": "a" * 40, "dirty": True, "source_hash": "b" * 64},
        "python": "3.11.7",
        "versions": {"numpy": "2.3.5"},
        "data": {"bfcl-eval": "1"},
        "machine": {"system": "Linux", "cpu": "CPU", "cores": 2, "memory_gb": 8.0, "gpus": []},
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1.5,
        "peak_memory_mb": 100.0,
        "outputs": {},
        "figures": [],
        **changes,
    }


@pytest.fixture
def run_dir(tmp_path):
    """Two finished chapters of three, and one that was begun outside of the series."""
    folder = tmp_path / "results/tiny"
    for name in CHAPTERS:
        (folder / name).mkdir(parents=True)
        cells = [new_markdown_cell(f"# {name}\n\nText."), shown(text_html="<p>shown</p>")]
        nbformat.write(notebook(*cells), folder / name / f"{name}.ipynb")
        changes = {"key": None} if name == "03_gamma" else {}
        (folder / name / "manifest.json").write_text(json.dumps(manifest(name, **changes)))
    return folder


def test_code_is_folded_and_standard_error_and_widgets_are_left_out():
    streams = [new_output("stream", name="stderr", text="Warning: x"), new_output("stream", name="stdout", text="said")]
    widget = new_output(
        "display_data", data={report.WIDGET: {"model_id": "1"}, "text/plain": "HBox(children=...)"}, metadata={}
    )
    html = body(notebook(new_code_cell("secret_source()", outputs=[*streams, widget])))
    assert "said" in html
    assert html.index('<details class="wb-code"><summary>Code</summary>') < html.index("secret_source")
    for hidden in ("Warning", "HBox", "<script", "In&nbsp;["):
        assert hidden not in html


EVIL = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<img src='https://example.org/x.png' alt='x'>",
    "<img src='data:image/svg+xml;base64,PHN2Zz4=' alt='x'>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href=' jav&#x09;ascript:alert(1)'>x</a>",
    "<a href='data:text/html,x'>x</a>",
    "<iframe src='https://example.org'></iframe>",
    "<svg onload=alert(1)></svg>",
    "<style>@import 'https://example.org';</style>",
    "<link rel=stylesheet href='https://example.org/x.css'>",
    "<div style='background:url(https://example.org)'>x</div>",
    "<object data='https://example.org'></object>",
    "<form action='https://example.org'><input></form>",
    "<meta http-equiv=refresh content='0;url=https://example.org'>",
    "<base href='https://example.org'>",
    "<video src='https://example.org' poster='https://example.org'></video>",
]


def test_nothing_that_runs_or_asks_gets_in(subtests):
    for evil in EVIL:
        for where, cell in {
            "output": shown(text_html=evil),
            "markdown": new_markdown_cell(evil),
            "markdown output": shown(text_markdown=evil),
        }.items():
            with subtests.test(evil, where=where):
                html = body(notebook(cell))
                assert not re.search(r"<(script|img|iframe|svg|style|link|object|form|input|meta|base|video)\b", html)
                assert not re.search(r"javascript|onerror=|onload=|style=|href=|src=|data:text", html)


@given(st.text(st.sampled_from("<>&\"'=/ abimgsrcxonload:;!-[]"), max_size=60))
def test_sanitizing_twice_is_sanitizing_once(text):
    once = sanitize(text)
    assert sanitize(once) == once
    assert "<script" not in once


def test_a_report_has_contents_and_links(tmp_path):
    folder = tmp_path / "results/tiny/01_alpha"
    for path in (folder, tmp_path / "notebooks", tmp_path / "params", tmp_path / "envtune/training"):
        path.mkdir(parents=True)
    (tmp_path / "envtune/training/recipes.py").touch()
    text = "# A?\n\nSee arXiv 2510.10197 and `training/recipes.py`, not `none.py`.\n\n## One & two\n\n### One & two\n"
    answer = shown(text_html='<div class="wb-answer" id="answer">x</div>')
    html = body(notebook(new_markdown_cell(text), answer))
    page = with_guides(html, "01_alpha", folder)
    order = ["<h1", '<nav aria-label="Contents" class="contents">', '<a href="#one-two">One &amp; two</a>']
    order += ['class="h3"><a href="#one-two-2">', '<a href="#answer">Answer</a>', '<a href="01_alpha.ipynb">']
    order += ['<a href="../../../notebooks/01_alpha.ipynb">', '<a href="../../../envtune">']
    order += ['<a href="https://arxiv.org/abs/2510.10197">arXiv 2510.10197</a>']
    order += ['<a href="../../../envtune/training/recipes.py"><code>training/recipes.py</code></a>']
    order += ["<code>none.py</code>", 'id="one-two">', 'id="one-two-2">']
    places = [page.find(part) for part in order]
    assert -1 not in places and places == sorted(places), dict(zip(order, places, strict=True))
    assert with_guides(page.partition("</nav>")[2], "01_alpha").count("../../..") == 1, "no project, no new links"


def test_what_notebooks_show_stays_readable():
    html = body(
        notebook(
            new_markdown_cell('> quoted `a < b & c`\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n<div class="x">y</div>'),
            shown(text_html=f'<figure class="wb-figure"><img src="{PIXEL}" alt="a dot" width="1"></figure>'),
            shown(text_html='<table class="et-conversation"><tr class="et-user"><th scope="row">u</th></tr></table>'),
            shown(text_html="<details open><summary>more</summary><pre>x\n  y</pre></details>"),
            shown(image_png=PIXEL.split(",")[1], text_plain="<Figure>"),
            shown(text_plain="1 < 2"),
        )
    )
    for part in (
        "<blockquote>",
        "<code>a &lt; b &amp; c</code>",
        "<td>1</td>",
        '<div class="x">y</div>',
        f'src="{PIXEL}"',
        'alt="a dot"',
        '<tr class="et-user"><th scope="row">u</th></tr>',
        "<summary>more</summary>",
        "x\n  y",
        "1 &lt; 2",
    ):
        assert part in html


def test_formulas_become_images_and_code_and_money_do_not():
    html = typeset("So $r_i \\cdot 2$ and\n$$\\frac{a}{b}$$\ncosts $5 or $10, `$x$` and\n```\n$y$\n```\n\\$z\\$")
    assert html.count("<img") == 2
    assert 'alt="r_i \\cdot 2"' in html
    assert 'class="wb-math-block"' in html
    for kept in ("costs $5 or $10", "`$x$`", "```\n$y$\n```", "\\$z\\$"):
        assert kept in html
    assert typeset("$\\nosuchmacro{x}$") == "<code>\\nosuchmacro{x}</code>"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("# 01 · What does it see?\n\nText. Why?", ("What does it see?",) * 2),
        ("# 02 Data\n\n**What *is* `it`?** More.\n\nText.", ("Data", "What is it? More.")),
        ("# Data\n\nText.\n\nWhat is [it](http://x)?", ("Data", "What is it?")),
        ("# Data", ("Data", "Data")),
        ("Just text", ("Just text", "Just text")),
        ("", ("", "")),
    ],
)
def test_title_and_question(source, expected):
    assert title_and_question(notebook(new_markdown_cell(source), new_markdown_cell("# Later?"))) == expected


def test_labels():
    assert label("03_reward_design") == "03 · Reward design"


def test_neighbours_are_linked_when_they_are_finished(run_dir):
    refresh(run_dir, CHAPTERS)
    first, second = ((run_dir / name / f"{name}.html").read_text() for name in CHAPTERS[:2])
    assert 'rel="next" href="../02_beta/02_beta.html"' in first
    assert '<a rel="prev"' not in first
    assert 'rel="prev" href="../01_alpha/01_alpha.html"' in second
    assert '<a rel="next"' not in second, "03 has no result of the series"
    assert not (run_dir / "03_gamma/03_gamma.html").exists()
    assert "laptop run" in first
    assert "aaaaaaaaaa with local changes" in first
    assert "<i>" not in first, "parameters are escaped"
    before = first
    refresh(run_dir, CHAPTERS)
    assert (run_dir / "01_alpha/01_alpha.html").read_text() == before


def test_a_run_on_a_gpu_is_not_called_a_laptop_run(run_dir):
    machine = {"system": "Linux", "cpu": "CPU", "cores": 2, "memory_gb": 8.0, "gpus": ["NVIDIA X"]}
    for name in CHAPTERS[:2]:
        (run_dir / name / "manifest.json").write_text(json.dumps(manifest(name, machine=machine)))
    refresh(run_dir, CHAPTERS)
    write_index(run_dir, CHAPTERS)
    for page in ("index.html", "01_alpha/01_alpha.html"):
        html = (run_dir / page).read_text()
        assert "laptop" not in html
        assert "NVIDIA X" in html


def test_the_index_has_a_card_per_chapter(run_dir):
    write_index(run_dir, CHAPTERS)
    html = (run_dir / "index.html").read_text()
    assert html.count('class="card"') == 2
    assert html.count('class="card pending"') == 1
    assert "What of 01_alpha?" in html
    assert "All of 01_alpha | &lt;b&gt;." in html
    assert "3.0 s, all notebooks together" in html
    write_index(run_dir, ["04_none"])
    assert "No results in this run yet" in (run_dir / "index.html").read_text()


def test_the_readme_shows_the_findings_and_knows_when_it_is_stale(run_dir, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n{BEGIN}\nold\n{END}\nrest\n")
    assert update_readme(readme, run_dir, check=True)
    assert "old" in readme.read_text()
    assert update_readme(readme, run_dir)
    assert not update_readme(readme, run_dir, check=True)
    link = "[01](results/tiny/01_alpha/01_alpha.html)"
    row = f"| Half \\| all (baseline: a quarter) | 50.0% | 25.0% | 40.0 to 60.0% | 4 | {link} |"
    assert row in readme.read_text().splitlines()
    assert "laptop numbers" in readme.read_text()
    assert readme.read_text().startswith("# Title\n")
    assert readme.read_text().endswith(f"{END}\nrest\n")
    assert "03_gamma" not in readme.read_text()


def test_tables_of_a_document_are_those_of_the_run(run_dir, tmp_path):
    (run_dir / "01_alpha/kinds.csv").write_text("kind,n\na,1\n")
    document = tmp_path / "hints.md"
    document.write_text("x\n<!-- table:01_alpha/kinds -->\nold\n<!-- table:end -->\ny\n")
    assert update_tables(document, run_dir, check=True)
    assert "old" in document.read_text()
    assert update_tables(document, run_dir)
    assert "| a | 1 |" in document.read_text().splitlines()
    assert not update_tables(document, run_dir, check=True)


def test_a_finding_without_a_baseline_stays_in_its_report(run_dir, tmp_path):
    path = run_dir / "01_alpha/manifest.json"
    told = json.loads(path.read_text())
    (found,) = told["answer"]["results"]
    told["answer"]["results"] = [found, found | {"what": "Alone", "baseline": None}]
    told["answer"]["results"] += [found | {"what": "Minus", "baseline": None, "unit": "points"}]
    path.write_text(json.dumps(told))
    table = at_a_glance(run_dir, tmp_path)
    assert "Alone" not in table
    assert "| Minus | +50.0 pp | – |" in table


def test_a_manifest_of_before_there_were_findings(run_dir, tmp_path):
    old = manifest("01_alpha", answer={"sentence": "All of it.", "n": 4, "results": 17})
    (run_dir / "01_alpha/manifest.json").write_text(json.dumps(old))
    answer = read_manifest(run_dir / "01_alpha")["answer"]
    assert answer == {"headline": "All of it.", "detail": "", "results": [], "n": 4}
    assert at_a_glance(run_dir, tmp_path).count("| Half") == 1, "one chapter has a finding"
    write_index(run_dir, CHAPTERS)
    assert "All of it." in (run_dir / "index.html").read_text()


@pytest.mark.parametrize("text", ["none", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_readme_without_its_markers(run_dir, tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(ValueError, match=r"README\.md: expected one '<!-- results:begin -->'"):
        update_readme(tmp_path / "README.md", run_dir)


def test_a_run_without_results(tmp_path):
    with pytest.raises(FileNotFoundError, match="no results in"):
        at_a_glance(tmp_path, tmp_path)


WIDE = """
import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib import pyplot as plt
fig, ax = plt.subplots()
ax.plot([1, 2])
nb.figure(fig, "line", alt="A rising line", caption="Rises.")
nb.table(pd.DataFrame({f"column {i}": ["x" * 40] for i in range(12)}), "wide", caption="Wide")
for _ in tqdm(range(3)): pass
print("long " * 200 + "y" * 500)
display(HTML('<img src="https://example.org/x.png"><script src="https://example.org/x.js"></script>' + 'z' * 500))
display(pd.DataFrame({f"column {i}": ["x" * 40] for i in range(12)}))
"""


@pytest.mark.slow
@pytest.mark.browser
def test_pages_in_a_browser(project, page_problems, browser):
    project.alpha(
        "#md\n## Formula\n$R = \\frac{1}{T}\\sum_t r_t$\n\n$$" + "a + " * 80 + "b$$\n\n```\n" + "code " * 90 + "\n```",
        ALPHA_WORK,
        WIDE,
    )
    project.beta()
    project.run()
    executed = (project.run_dir / "01_alpha/01_alpha.ipynb").read_text()
    assert "100%" in executed, "a bar of tqdm.auto, imported before `begin`, is text"
    assert report.WIDGET not in executed
    pages = sorted(project.run_dir.rglob("*.html"))
    assert [page.name for page in pages] == ["01_alpha.html", "02_beta.html", "index.html"]
    for page in pages:
        for width in (1280, 400):
            assert page_problems(page, width) == [], f"{page.name} at {width} px"
    for width, scale in ((1280, 0.75), (390, 0.6)):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto(pages[0].as_uri())
        assert hard_to_read(page, ".wb-figure, .wb-table, .wb-answer, .contents") == []
        assert page.locator(".wb-scroll figcaption, .wb-scroll caption").count() == 0, "captions do not scroll away"
        scrolls = "boxes => boxes.map(box => box.scrollWidth > box.clientWidth)"
        assert page.locator(".wb-table .wb-scroll").evaluate_all(scrolls).count(True) >= 1
        page.goto(pages[-1].as_uri())
        drawn = page.locator(".card img").evaluate_all(
            "all => all.map(i => i.clientWidth / (i.naturalWidth * 96 / 150))"
        )
        assert min(drawn) >= scale, "letters of 14 pixels stay readable"
        page.close()


@pytest.mark.browser
def test_the_check_sees_what_it_should_see(tmp_path, page_problems):
    page = tmp_path / "bad.html"
    page.write_text(
        "<!DOCTYPE html><link rel=stylesheet href='http://127.0.0.1:9/x.css'><img src=none.png alt=x>"
        f"<img src='{PIXEL}'><div style='width:2000px'>x</div><script>console.error('no'); oops()</script>"
    )
    found = "\n".join(page_problems(page))
    for part in ("requests http://127.0.0.1:9", "broken image", "without alt", "sideways", "console: no", "oops"):
        assert part in found


@pytest.mark.browser
def test_the_reports_that_are_here(page_problems):
    pages = sorted((ROOT / "results").glob("*/**/*.html"))
    if not pages:
        pytest.skip("no run in results/")
    assert {str(page.relative_to(ROOT)): found for page in pages if (found := page_problems(page))} == {}
