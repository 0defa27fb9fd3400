"""A project of two small notebooks, `01_alpha` and `02_beta`, which real kernels run in a temporary folder."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from stub_chapters import CHAPTERS

from envtune.workbook.series import Outcome, run_series

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

ALPHA_PARAMETERS = """
run = "test"  # name of the run
results = "results"  # folder # of all runs
seed = 0  # seed = of every random choice
n = 2  # how many
rate = 1e-3  # learning rate
"""
ALPHA_BEGIN = """
from tqdm.auto import tqdm
from envtune import workbook
from stub_chapters import ALPHA
nb = workbook.begin(ALPHA, run=run, results=results, seed=seed, n=n, rate=rate)
"""
ALPHA_WORK = 'nb.path("data.txt").write_text(str(nb.params.n * 2));'
ALPHA_FINISH = """
twice = nb.params.n * 2
nb.finish(headline=f"Twice {nb.params.n} is {twice}.", detail="By multiplication.", double=twice)
"""

BETA_PARAMETERS = """
run = "test"  # name of the run
results = "results"  # folder of all runs
seed = 0  # seed of every random choice
note = "x"  # text
"""
BETA_BEGIN = """
from envtune import workbook
from stub_chapters import BETA
nb = workbook.begin(BETA, run=run, results=results, seed=seed, note=note)
"""
BETA_WORK = 'text = nb.input("01_alpha", "data.txt").read_text()'
BETA_FINISH = 'nb.finish(headline=f"It was {text}.", detail="As read.", length=len(text))'


def write_notebook(path: Path, title: str, parameters: str, *code: str) -> None:
    """A first cell with the title, the parameters, and the code; a cell that starts with `#md` is Markdown."""
    cells = [new_markdown_cell(f"# {title}"), new_code_cell(parameters.strip(), metadata={"tags": ["parameters"]})]
    for source in code:
        text = textwrap.dedent(source).strip()
        cells.append(new_markdown_cell(text[3:].strip()) if text.startswith("#md") else new_code_cell(text))
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    nbformat.write(new_notebook(cells=cells), path)


@dataclass
class Project:
    root: Path

    @property
    def run_dir(self) -> Path:
        return self.root / "results/test"

    @property
    def params(self) -> Path:
        return self.root / "params/test.yaml"

    def set(self, **values: Any) -> None:
        self.params.write_text(yaml.safe_dump({"run": "test", **values}))

    def alpha(self, *work: str, finish: str = ALPHA_FINISH, parameters: str = ALPHA_PARAMETERS) -> None:
        path = self.root / "notebooks/01_alpha.ipynb"
        write_notebook(path, "01 · What is twice n?", parameters, ALPHA_BEGIN, *work, finish)

    def beta(self, *work: str) -> None:
        path = self.root / "notebooks/02_beta.ipynb"
        write_notebook(path, "02 · What was it?", BETA_PARAMETERS, BETA_BEGIN, BETA_WORK, *work, BETA_FINISH)

    def run(self, **options: Any) -> list[Outcome]:
        options = {"chapters": CHAPTERS, "notebooks_dir": self.root / "notebooks", "echo": lambda _: None} | options
        return run_series(self.params, **options)

    def ran(self, **options: Any) -> list[str]:
        """The chapters that were executed, not skipped."""
        return [outcome.chapter for outcome in self.run(**options) if outcome.seconds is not None]

    def manifest(self, chapter: str) -> dict[str, Any]:
        return json.loads((self.run_dir / chapter / "manifest.json").read_text())
