"""A notebook's side of the workbook: checked parameters, an output folder, and the manifest at the end.

In: the names and values of the notebook's `parameters` cell. Out: files in `results/<run>/<chapter>/`. The last is
`manifest.json`, without which they do not count. The series sets `ENVTUNE_STEP_DIR` to a folder next to the final one
and swaps the two when the notebook is complete.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import BaseFileLock
from pydantic import ValidationError

from envtune import display
from envtune.locks import lock
from envtune.policy import set_threads
from envtune.workbook import figures, provenance, work
from envtune.workbook.errors import ParamsError
from envtune.workbook.findings import COLUMNS, Finding, cells
from envtune.workbook.frontend import calm_interrupts, quiet
from envtune.workbook.injected import injected_names
from envtune.workbook.params import CHAPTERS, Chapter, Common, Training, chapter
from envtune.workbook.params_file import explain, validate
from envtune.workbook.paths import (
    MANIFEST,
    PUBLISHED,
    file_of_run,
    find_root,
    kernel_lock,
    notebook_name,
    partial_dir,
    published_folder,
    report_name,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from envtune.training.plan import Plan
    from envtune.workbook.live import Live

STEP_DIR = "ENVTUNE_STEP_DIR"
HEADLINE_WORDS = 25
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def begin(name: str | Chapter, **parameters: Any) -> Workbook:
    """Start a notebook: check its parameters, prepare the output folder, set style, seeds and log levels.

    Args:
        name: the notebook's name without `.ipynb` (or, for a notebook outside of the series, its `Chapter`).
        parameters: every name of the `parameters` cell, as `name=name`.

    Raises:
        ParamsError: a parameter that the chapter's model does not know, or of another type. One line per problem.
        FileNotFoundError: an earlier chapter that this one needs has not run.
        SeriesError: it has run with other parameters, code or data.
    """
    found = name if isinstance(name, Chapter) else chapter(name)
    known = {field for each in (*CHAPTERS, found) for field in each.model.model_fields}  # a file serves all notebooks
    typed = {name: None for name in injected_names() if name not in known}  # papermill only warns
    try:
        params = validate(found.model, {**typed, **parameters})
    except ValidationError as error:
        fields = list(found.model.model_fields)
        raise ParamsError("\n".join(explain(line, fields) for line in error.errors())) from None
    workbook = Workbook(found, params, _output_folder(found, params))
    if not os.environ.get(STEP_DIR):
        work.alone(found, params, workbook.folder)
    (workbook.folder / MANIFEST).unlink(missing_ok=True)  # until `finish`, this folder holds no result
    quiet()
    calm_interrupts()
    if isinstance(params, Training):
        set_threads(params.threads)  # also for evaluations before and after training
    random.seed(params.seed)
    _seed_numpy(params.seed)
    figures.set_style()
    _show(f"{display.style()}<style>{(figures.HERE / 'content.css').read_text()}</style>")
    return workbook


class Workbook:
    """The notebook's tool for output, made by `begin`.

    Attributes:
        params: the checked parameters. Prefer `nb.params.x` to the bare name, which may hold a number as text.
        folder: where this notebook's files go.
    """

    def __init__(self, of: Chapter, params: Common, folder: Path) -> None:
        self.name = of.name
        self.params: Any = params
        self.folder = folder
        self._reads = of.reads
        self._started = datetime.now(UTC)
        self._clock = time.monotonic()
        self._code = provenance.code()
        self._figures: list[dict[str, str]] = []
        self._tables: list[dict[str, str]] = []
        self._inputs: dict[str, str] = {}
        for need in of.needs:
            self.input(need, MANIFEST)

    @property
    def plan(self) -> Plan:
        """The training plan of the parameters, for a chapter that trains.

        Raises:
            TypeError: this chapter does not train.
        """
        if not isinstance(self.params, Training):
            raise TypeError(f"{self.name} trains nothing, so it has no plan")
        return self.params.plan()

    @property
    def laptop(self) -> bool:
        """Whether this chapter's numbers come from a laptop, see `provenance.is_laptop`."""
        return provenance.is_laptop(getattr(self.params, "policy", ""), provenance.gpus())

    @property
    def note(self) -> str:
        """The end of captions: a note on laptop numbers, or nothing."""
        return " Laptop numbers." if self.laptop else ""

    def live(self, plan: Plan) -> Live:
        """What to show while the plan is trained in this folder, see `workbook.live`."""
        from envtune.workbook.live import Live, published_lines

        published = published_folder(find_root(), self.params.run) / self.name
        expected = published_lines(published, self.params.model_dump())
        return Live(plan, self.folder, f"{self.params.run}/{self.name}" if self.params.trackio else None, expected)

    def path(self, name: str) -> Path:
        """A path in this notebook's output folder. Makes the folders above it.

        Raises:
            ValueError: `name` is absolute or leads out of the folder.
        """
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder.resolve()) or path == self.folder.resolve():
            raise ValueError(f"'{name}' is not a file inside the notebook's output folder. Give a relative name")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def input(self, of: str, name: str) -> Path:
        """A file or folder of an earlier chapter of this run. The manifest records its hash.

        Raises:
            FileNotFoundError: it is not there. The message says which chapter to run.
        """
        path = self.folder.parent / of / name
        if not path.exists():
            raise FileNotFoundError(f"'{name}' of {of} is missing. Run that chapter first (envtune run --only {of})")
        if path.is_dir():
            self._inputs |= {f"{of}/{name}/{file}": digest for file, digest in provenance.hash_folder(path).items()}
        else:
            self._inputs[f"{of}/{name}"] = provenance.sha256_file(path)
        return path

    def read(self, name: str) -> Path | None:
        """A file of another run that the chapter lists in `reads`. None if it is not there.

        It is the user's own or the published one (`paths.file_of_run`). The manifest's `inputs` say which.

        Args:
            name: `<run>/<file>`.

        Raises:
            ValueError: the chapter does not list it, so the series would not see it change.
        """
        if name not in self._reads:
            raise ValueError(f"'{name}' is not among the files that {self.name} reads. Add it in workbook/params.py")
        results = self.folder.parents[1]
        path = file_of_run(find_root(), results, name)
        if path is not None:
            own = path == results / name
            self._inputs[f"../{name}" if own else f"../{PUBLISHED}/{name}"] = provenance.sha256_file(path)
        return path

    def figure(self, fig: Figure, name: str, *, alt: str, caption: str = "") -> None:
        """Write a figure as `name.png` and `name.svg`, show it, and close it.

        Args:
            fig: a matplotlib figure.
            name: file name without ending.
            alt: what the figure shows, for readers who cannot see it. Required.
            caption: shown below it.

        Raises:
            ValueError: an empty `alt`, or a name that is not plain.
        """
        if not alt.strip():
            raise ValueError(f"figure '{name}': alt is empty. Say in a sentence what the figure shows")
        _check_name(name)
        files = figures.figure_files(fig)
        for kind, content in files.items():
            provenance.write_atomic(self.path(f"{name}.{kind}"), content)
        self._figures.append({"file": f"{name}.png", "alt": alt, "caption": caption})
        _show(figures.figure_html(files["png"], alt, caption))
        _close(fig)

    def table(
        self,
        frame: pd.DataFrame,
        name: str,
        *,
        caption: str = "",
        formats: Mapping[str, figures.Format] | None = None,
        shown: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    ) -> None:
        """Write a table as `name.csv` in full precision, and show it formatted.

        Args:
            frame: the table. An index other than 0..n-1 becomes the row headers.
            name: file name without ending.
            caption: shown above it.
            formats: column -> format (`".1%"`, `"{:.1f} s"`, or a function). Default for floats: three decimals.
            shown: turns the frame into what is shown, such as `readable`. Default: the frame itself.

        Raises:
            ValueError: a name that is not plain.
            KeyError: `formats` names a column that is not there.
        """
        _check_name(name)
        html = figures.table_html(shown(frame) if shown else frame, caption, formats or {})
        plain = figures.plain_index(frame)
        provenance.write_atomic(self.path(f"{name}.csv"), frame.to_csv(index=not plain, lineterminator="\n"))
        self._tables.append({"file": f"{name}.csv", "caption": caption})
        _show(html)

    def finish(self, *, headline: str, detail: str, results: Sequence[Finding] = (), **numbers: Any) -> None:
        """Answer the notebook's question: write the manifest and show the answer. The last cell calls it.

        Args:
            headline: the finding as one sentence of at most `HEADLINE_WORDS` words with two or three numbers.
            detail: a few sentences on how it was measured, how sure it is, and what did not work.
            results: the rows of the results table.
            numbers: the numbers of the text by name, in full precision.

        Raises:
            ValueError: a text is empty or holds "nan", or the headline is too long.
            TypeError: a number that is not JSON.
        """
        _check_answer(headline, detail)
        rows = [asdict(finding) for finding in results]
        answer = {"headline": headline, "detail": detail, "results": rows, **numbers}
        provenance.write_json(self.folder / MANIFEST, self._manifest(answer))
        texts = {"headline": headline, "detail": detail, "columns": COLUMNS, "rows": list(map(cells, rows))}
        _show(figures.template("answer.html").render(texts))

    def _manifest(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        parameters = self.params.model_dump()
        mine = {MANIFEST, notebook_name(self.name), report_name(self.name)}
        return {
            "schema": 1,
            "notebook": self.name,
            "status": "complete",
            "run": self.params.run,
            "answer": answer,
            "parameters": parameters,
            "parameters_hash": provenance.sha256_json(parameters),
            "seed": self.params.seed,
            "code": self._code,
            "python": provenance.platform.python_version(),
            "versions": provenance.versions(),
            "data": provenance.data_version(),
            "machine": provenance.machine(),
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._clock, 2),
            "peak_memory_mb": provenance.peak_memory_mb(),
            "inputs": self._inputs,
            "outputs": provenance.hash_folder(self.folder, skip=mine),
            "figures": self._figures,
            "tables": self._tables,
        }


def _output_folder(of: Chapter, params: Common) -> Path:
    given = os.environ.get(STEP_DIR)
    folder = Path(given) if given else find_root() / params.results / params.run / of.name
    if given and folder != partial_dir(folder.parent, of.name):
        raise ParamsError(f"begin('{of.name}') in a notebook that the series runs as '{folder.name}': names must agree")
    folder.mkdir(parents=True, exist_ok=True)
    if given:
        work.check_code(of.name)
        _hold(lock(kernel_lock(folder.parent), timeout=-1))
    return folder


def _hold(held: BaseFileLock) -> None:
    """Keep a lock until this process ends, so that the series knows when its kernel has stopped writing."""
    if not _held:
        held.acquire()
        _held.append(held)


_held: list[BaseFileLock] = []


def _check_name(name: str) -> None:
    if not PLAIN_NAME.fullmatch(name):
        raise ValueError(f"'{name}' is not a plain file name. Use letters, digits, '_', '-' and '.'")


def _check_answer(headline: str, detail: str) -> None:
    for name, text in {"headline": headline, "detail": detail}.items():
        if not text.strip():
            raise ValueError(f"the {name} is empty. Say what the notebook found")
        if re.search(r"\bnan\b", text):
            raise ValueError(f"the {name} holds 'nan' ({text!r}). Leave out what was not measured")
    words = len(headline.split())
    if words > HEADLINE_WORDS:
        raise ValueError(
            f"the headline has {words} words, at most {HEADLINE_WORDS} are allowed. Move the rest to the detail"
        )


def _seed_numpy(seed: int) -> None:
    import numpy as np

    np.random.seed(seed)  # seaborn's intervals draw from the global state


def _show(html: str) -> None:
    from IPython.display import HTML
    from IPython.display import display as show

    show(HTML(html))


def _close(fig: Figure) -> None:
    from matplotlib import pyplot

    pyplot.close(fig)
