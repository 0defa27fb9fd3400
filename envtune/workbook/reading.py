"""What helps to read a report: its contents list, its code behind a click, links to sources and papers.

In: an executed notebook's cells, or the clean HTML made from them. Out: the same with the help added. No script.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

from bs4 import BeautifulSoup
from markupsafe import escape
from nbformat import NotebookNode
from nbformat.v4 import new_output
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from envtune.workbook.figures import template
from envtune.workbook.paths import find_root, notebook_name

ARXIV = re.compile(r"arXiv[ :](\d{4}\.\d{4,5})")
SOURCE = re.compile(r"[\w./-]+\.(?:py|md|yaml|ipynb)")
HEADINGS = ("h2", "h3")


def with_code(cell: NotebookNode) -> NotebookNode:
    """A code cell whose first output is its own source, folded."""
    code = highlight(cell.source, PythonLexer(), HtmlFormatter(nowrap=True))
    html = f'<details class="wb-code"><summary>Code</summary><pre>{code}</pre></details>'
    return NotebookNode(cell, outputs=[new_output("display_data", data={"text/html": html}), *cell.outputs])


def with_guides(html: str, name: str, folder: Path | None = None) -> str:
    """A report's clean HTML with a contents list below its title, and with links.

    Args:
        html: of `report.sanitize`.
        name: the chapter.
        folder: where the report will be. In a project, files that the text names become relative links.
    """
    soup = BeautifulSoup(html, "html.parser")
    root = _root(folder)
    _link_papers(soup)
    if root and folder:
        _link_sources(soup, root, folder)
    title = soup.find("h1")
    guide = template("contents.html").render(
        headings=_headings(soup),
        executed=notebook_name(name),
        source=_relative(root / "notebooks" / notebook_name(name), folder) if root and folder else None,
        package=_relative(root / "envtune", folder) if root and folder else None,
    )
    if title is not None:
        title.insert_after(BeautifulSoup(guide, "html.parser"))
    return str(soup)


def _headings(soup: BeautifulSoup) -> list[tuple[str, str, str]]:
    """Tag, id and text of each heading and of the answer. Gives each heading its id."""
    seen: Counter[str] = Counter()
    found = []
    for heading in soup(HEADINGS):
        words = heading.get_text(" ", strip=True)
        slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") or "section"
        seen[slug] += 1
        heading["id"] = slug if seen[slug] == 1 else f"{slug}-{seen[slug]}"
        found.append((str(heading.name), str(heading["id"]), words))
    return found + [("h2", "answer", "Answer")] * bool(soup.find(class_="wb-answer", id="answer"))


def _link_papers(soup: BeautifulSoup) -> None:
    for words in soup.find_all(string=ARXIV):
        if not words.find_parent(["a", "code", "pre"]):
            linked = ARXIV.sub(r'<a href="https://arxiv.org/abs/\1">arXiv \1</a>', str(escape(str(words))))
            words.replace_with(BeautifulSoup(linked, "html.parser"))


def _link_sources(soup: BeautifulSoup, root: Path, folder: Path) -> None:
    """Link code such as `training/recipes.py` if the project has that file."""
    for code in soup("code"):
        name = code.get_text()
        if SOURCE.fullmatch(name) and ".." not in name and not code.find_parent(["a", "pre", "summary"]):
            found = next((path for path in (root / name, root / "envtune" / name) if path.is_file()), None)
            if found:
                code.wrap(soup.new_tag("a", href=_relative(found, folder)))


def _root(folder: Path | None) -> Path | None:
    """The project that holds the folder, if there is one."""
    if folder is None:
        return None
    try:
        root = find_root(folder)
    except FileNotFoundError:
        return None
    return root if (root / "envtune").is_dir() else None


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder.resolve())).as_posix()
