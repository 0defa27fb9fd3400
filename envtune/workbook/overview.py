"""Overview of a run: its `index.html`, and the table of findings in the README.

In: the manifests of `results/<run>/`. Out: derived text only, so no number is written twice.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from envtune.workbook import findings, provenance
from envtune.workbook.figures import table_html, template
from envtune.workbook.manifest import finished
from envtune.workbook.paths import report_name
from envtune.workbook.report import describe, label, stylesheet
from envtune.workbook.reproduction import COLUMNS, Reproduction, cells

NOTE = "*n*: tasks, turns, pairs, calls or seeds; pp: percentage points."
LAPTOP = " Trained policies have a million parameters: laptop numbers, not comparable with published scores."
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
TABLE = re.compile(r"<!-- table:(?P<path>[\w/-]*/[\w-]+) -->.*?<!-- table:end -->", re.DOTALL)


def write_index(
    run_dir: Path, names: Sequence[str], compared: Reproduction | None = None, *, run: str | None = None
) -> None:
    """Write `index.html`: a card per chapter with its question and answer, and where the results come from.

    Args:
        run_dir: the run's folder.
        names: the chapters of the series. One without results has a card that says so.
        compared: the comparison with the published run. None: it is left out.
        run: the run's name. Default: the folder's.
    """
    chapters = finished(run_dir, names)
    latest = max(chapters.values(), key=lambda manifest: manifest["started"], default=None)
    page = template("index.html").render(
        style=stylesheet(),
        label=label,
        run=run or run_dir.name,
        cards=[(name, chapters.get(name)) for name in names],
        seconds=sum(manifest["seconds"] for manifest in chapters.values()),
        laptop=any(map(provenance.by_laptop, chapters.values())),
        compared=compared,
        differences=Markup(_differences(compared)) if compared and compared.different else "",
        provenance=[row for row in describe(latest) if row[0] != "Time"] if latest else [],
    )
    provenance.write_atomic(run_dir / "index.html", page)


def _differences(compared: Reproduction) -> str:
    """A table of the numbers that differ from the published run."""
    frame = pd.DataFrame([cells(record) for record in compared.different], columns=list(COLUMNS))
    return table_html(frame, "Every number that differs from the published one.", {})


def at_a_glance(results_dir: Path, base: Path) -> str:
    """A Markdown table of what the run's chapters compared, in order, and a note on the numbers.

    A finding without a baseline that is no difference either stands in its report alone.

    Args:
        results_dir: the run's folder, such as `results/published/tiny`.
        base: the README's folder, where links start.

    Raises:
        FileNotFoundError: no chapter of that run is complete.
    """
    names = sorted(path.parent.name for path in results_dir.glob("[0-9]*/manifest.json"))
    chapters = finished(results_dir, names)
    if not chapters:
        raise FileNotFoundError(f"no results in '{results_dir}'. Run the series first (envtune run params/...)")
    folder = Path(os.path.relpath(results_dir.resolve(), base.resolve())).as_posix()
    rows = [
        [*findings.cells(finding), _link(name, folder)]
        for name, own in chapters.items()
        for finding in own["answer"]["results"]
        if finding["baseline"] is not None or finding["unit"] == "points"
    ]
    laptop = any(map(provenance.by_laptop, chapters.values()))
    return f"{markdown_table([[*findings.COLUMNS, 'Notebook'], *rows])}\n\n{NOTE}{LAPTOP if laptop else ''}"


def update_readme(readme: Path, results_dir: Path, check: bool = False) -> bool:
    """Put `at_a_glance` between the README's result markers, and the run's tables between their own markers.

    `<!-- table:02_environment/coverage -->` ... `<!-- table:end -->` holds `coverage.csv` of that chapter.

    Args:
        readme: the file with the markers.
        results_dir: the run's folder.
        check: do not write.

    Returns:
        Whether the README was stale.

    Raises:
        FileNotFoundError: no README, or no results.
        ValueError: the markers are not there exactly once each, in order.
    """
    text = readme.read_text(encoding="utf-8")
    block = re.compile(f"{BEGIN}.*?{END}", re.DOTALL)
    if text.count(BEGIN) != 1 or text.count(END) != 1 or not block.search(text):
        raise ValueError(f"{readme.name}: expected one '{BEGIN}' and after it one '{END}'")
    table = at_a_glance(results_dir, readme.parent)
    updated = block.sub(lambda _: f"{BEGIN}\n{table}\n{END}", text)
    return _update(readme, text, _with_tables(updated, results_dir), check)


def update_tables(document: Path, results_dir: Path, check: bool = False) -> bool:
    """Put the run's tables between their markers in a document. Arguments and result are those of `update_readme`."""
    text = document.read_text(encoding="utf-8")
    return _update(document, text, _with_tables(text, results_dir), check)


def _update(path: Path, text: str, updated: str, check: bool) -> bool:
    if updated != text and not check:
        provenance.write_atomic(path, updated)
    return updated != text


def _with_tables(text: str, results_dir: Path) -> str:
    return TABLE.sub(lambda found: _table_block(found["path"], results_dir), text)


def _table_block(path: str, results_dir: Path) -> str:
    with (results_dir / f"{path}.csv").open(encoding="utf-8", newline="") as file:
        table = markdown_table(list(csv.reader(file)))
    return f"<!-- table:{path} -->\n{table}\n<!-- table:end -->"


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first row is the header. All columns but the first are aligned right."""
    header, *body = rows
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *body]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _link(name: str, folder: str) -> str:
    return f"[{name[:2]}]({folder}/{name}/{report_name(name)})"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
