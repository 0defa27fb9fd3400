"""An executed notebook as one HTML page that needs nothing else: no script, no font, no request.

In: `NN_name.ipynb` and the chapter's manifest. Out: `NN_name.html` next to it. nbconvert turns cells into HTML. Its
output passes an allow-list (`sanitize`) and is put into our own page, so nbconvert's themes, scripts, widgets and
inline styles are left out. Code is folded, and `reading` adds a contents list and links. In addition to Markdown, a
page may hold `nb.figure`, `nb.table`, and HTML with the classes in `display.css` and `content.css`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

import bleach
import nbformat
from bs4 import BeautifulSoup
from bs4.exceptions import ParserRejectedMarkup
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from envtune import display
from envtune.workbook import provenance
from envtune.workbook.figures import HERE, template
from envtune.workbook.manifest import Manifest, finished
from envtune.workbook.mathtext import typeset
from envtune.workbook.paths import notebook_name, report_name
from envtune.workbook.reading import with_code, with_guides

TEXT_TAGS = "a abbr b br code del em i img ins kbd mark q s samp small span strong sub sup var"
BLOCK_TAGS = "blockquote dd details div dl dt figcaption figure h1 h2 h3 h4 h5 h6 hr li ol p pre section summary ul"
TABLE_TAGS = "caption col colgroup table tbody td tfoot th thead tr"
TAGS = frozenset(f"{TEXT_TAGS} {BLOCK_TAGS} {TABLE_TAGS}".split())
ATTRIBUTES = {
    "alt",
    "class",
    "colspan",
    "height",
    "id",
    "lang",
    "open",
    "role",
    "rowspan",
    "scope",
    "start",
    "tabindex",
}
ATTRIBUTES |= {"title", "width"}
IMAGE = re.compile(r"data:image/(png|jpeg|gif);base64,[A-Za-z0-9+/=\s]+")
LINK = re.compile(r"#|https?://|mailto:|[A-Za-z0-9_.][^:]*$")
NUMBER = re.compile(r"^\d+\s*[·.:–—-]?\s*")
WIDGET = "application/vnd.jupyter.widget-view+json"


def write_report(
    folder: Path, manifest: Manifest, *, before: Manifest | None = None, after: Manifest | None = None
) -> None:
    """Render the executed notebook in `folder`.

    Args:
        folder: the chapter's results.
        manifest: of this chapter.
        before: of the chapter before it, if there is one to link to.
        after: of the chapter after it, if there is one.
    """
    name = manifest["notebook"]
    notebook = nbformat.read(folder / notebook_name(name), as_version=4)
    page = template("chapter.html").render(
        style=stylesheet(),
        manifest=manifest,
        laptop=provenance.by_laptop(manifest),
        before=before,
        after=after,
        body=Markup(with_guides(body(notebook), name, folder)),
        describe=describe,
        label=label,
    )
    provenance.write_atomic(folder / report_name(name), page)


def refresh(run_dir: Path, names: Sequence[str]) -> None:
    """Render all finished chapters again, so that each links to its present neighbours."""
    chapters = list(finished(run_dir, names).values())
    for before, manifest, after in zip([None, *chapters], chapters, [*chapters[1:], None], strict=False):
        write_report(run_dir / manifest["notebook"], manifest, before=before, after=after)


def stylesheet() -> Markup:
    """The style of every page."""
    shared = display.style().removeprefix("<style>").removesuffix("</style>")
    return Markup("".join([shared, *((HERE / name).read_text() for name in ("content.css", "page.css"))]))


def body(notebook: NotebookNode) -> str:
    """The cells as clean HTML: text, folded code, results. Nothing written to standard error, no widgets."""
    notebook = notebook.copy()
    notebook.cells = [_without_noise(cell) for cell in notebook.cells]
    notebook.metadata.pop("widgets", None)
    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
        embed_images=True,
        mathjax_url="",
        require_js_url="",
    )
    html, _ = exporter.from_notebook_node(notebook)
    return sanitize(html)


def _without_noise(cell: NotebookNode) -> NotebookNode:
    if cell.cell_type == "markdown":
        return NotebookNode(cell, source=typeset(cell.source))
    if cell.cell_type != "code":
        return cell
    shown = [
        output for output in cell.outputs if output.get("name") != "stderr" and WIDGET not in output.get("data", {})
    ]
    return with_code(NotebookNode(cell, outputs=shown))


def sanitize(html: str) -> str:
    """`html` with only the tags and attributes of the allow-list: images as data, no scripts, no styles."""
    try:
        soup = BeautifulSoup(html, "html.parser")
    except ParserRejectedMarkup:  # an invalid declaration, such as `<![:`
        soup = BeautifulSoup(html.replace("<!", "&lt;!"), "html.parser")
    for unwanted in soup(["script", "style", "template", "iframe", "object", "noscript"]):
        unwanted.decompose()  # with its content, which bleach would leave as text
    for image in soup("img"):
        if not IMAGE.fullmatch(str(image.get("src", ""))):
            image.decompose()  # it would be a request, or a broken image
    return str(
        bleach.clean(
            str(soup), tags=TAGS, attributes=_allowed, protocols=["data", "http", "https", "mailto"], strip=True
        )
    )


def _allowed(tag: str, name: str, value: str) -> bool:
    if tag == "img" and name == "src":
        return IMAGE.fullmatch(value) is not None
    if tag == "a" and name == "href":
        return LINK.match(value) is not None
    return name in ATTRIBUTES or name.startswith("aria-")


def title_and_question(notebook: NotebookNode) -> tuple[str, str]:
    """A notebook's heading without its number, and the question it asks.

    The question is the heading if it ends with a question mark, or else the first line of the first cell that does.
    Without such a line, it is the first line below the heading.
    """
    first = next((cell.source for cell in notebook.cells if cell.cell_type == "markdown"), "")
    lines = [line.strip() for line in first.splitlines() if line.strip()]
    heading = next((line for line in lines if line.startswith("#")), lines[0] if lines else "")
    title = NUMBER.sub("", _plain(heading))
    rest = [_plain(line) for line in lines if not line.startswith("#")]
    return title, next((line for line in [title, *rest] if line.endswith("?")), rest[0] if rest else title)


def label(name: str) -> str:
    """A chapter's name as words: `03_reward_design` is "03 · Reward design"."""
    number, _, words = name.partition("_")
    return f"{number} · {words.replace('_', ' ').capitalize()}"


def _plain(markdown: str) -> str:
    """A line of Markdown as plain text."""
    text = re.sub(r"<[^>]+>", "", markdown.lstrip("#> "))
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    return unescape(re.sub(r"[*`]|(?<!\w)_|_(?!\w)", "", text)).strip()


def clean_executed(path: Path, root: Path) -> None:
    """Remove from an executed notebook what only names paths on the machine."""
    notebook = nbformat.read(path, as_version=4)
    for key in ("input_path", "output_path"):
        notebook.metadata.get("papermill", {}).pop(key, None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = output.text.replace(f"{root}/", "")
    provenance.write_atomic(path, nbformat.writes(notebook) + "\n")


def describe(manifest: Manifest) -> list[tuple[str, Any]]:
    """The provenance of a result, as labels and texts for the footer of every page."""
    code, machine = manifest["code"], manifest["machine"]
    revision = (code["revision"] or "outside git")[:10] + provenance.changes_text(code)
    processors = ", ".join([machine["cpu"], *machine["gpus"]])
    cost = f"{manifest['seconds']:.1f} s, at most {manifest['peak_memory_mb']:,.0f} MB"
    rows = [
        ("Run", f"{manifest['run']} (seed {manifest['seed']})"),
        ("Machine", f"{machine['cores']} cores, {machine['memory_gb']:.0f} GB, {processors}"),
        ("Time", f"{cost}; {manifest['started'][:10]}"),
        ("Code", f"{revision}, sources {code['source_hash'][:10]}"),
        ("Data", ", ".join(f"{name} {value[:12]}" for name, value in manifest["data"].items())),
        ("Python", manifest["python"]),
    ]
    return [(label, text) for label, text in rows if text]
