"""Run the notebooks in order, skip what is up to date, and never leave half a result.

In: a parameter file. Out: `results/<run>/NN_name/` per chapter, and `results/<run>/index.html`. A chapter runs in a
hidden folder next to its final one and replaces it when complete, so a reader sees the old results or the new. It is
skipped only if its parameters, its cells, the code that makes numbers, the data and the answers it builds on are those
of the manifest, and the files recorded there are unchanged. The series ends with a comparison with the published run of
its name, if there is one (`reproduction`). After a kill, the next run goes on, also on another computer: finished
chapters are skipped, and the one that was running finds its files in its folder. Weights and episodes that cannot go on
are set aside (`work`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from envtune import sources
from envtune.locks import lock
from envtune.workbook import folders, provenance, work
from envtune.workbook.errors import ParamsError, SeriesError
from envtune.workbook.manifest import is_current, read_manifest
from envtune.workbook.notebook import STEP_DIR
from envtune.workbook.params import CHAPTERS, Chapter, Common
from envtune.workbook.params_file import load_params, resolve
from envtune.workbook.paths import (
    MANIFEST,
    file_of_run,
    find_root,
    kernel_lock,
    notebook_name,
    partial_dir,
    relative,
    report_name,
)
from envtune.workbook.reproduction import against_published

ORPHAN_TIMEOUT = 30.0  # seconds. A kernel whose series was killed ends within two


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one chapter."""

    chapter: str
    seconds: float | None
    """Time of its execution. None if it was up to date."""


@dataclass(frozen=True, slots=True)
class _Series:
    """Values shared by all chapters of one call."""

    root: Path
    run_dir: Path
    code: str
    data: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Step:
    """One chapter, ready to run."""

    chapter: Chapter
    notebook: Path
    params: Common
    given: Mapping[str, Any]
    """The parameters that the file sets, typed, for papermill to inject."""


def run_series(
    params_path: Path | str,
    *,
    only: str | None = None,
    force: bool = False,
    notebooks_dir: Path | None = None,
    chapters: Sequence[Chapter] = CHAPTERS,
    echo: Callable[[str], None] = print,
) -> list[Outcome]:
    """Run the series, or one notebook of it.

    Args:
        params_path: YAML file, see `params_file.load_params`.
        only: run this chapter alone. Its name or the beginning of it, such as `03`.
        force: run everything from scratch, even if up to date.
        notebooks_dir: folder of the notebooks. Default: `notebooks/` of the project. Results go next to it.
        chapters: the series. Those whose notebook does not exist are left out.
        echo: takes one line per chapter.

    Raises:
        FileNotFoundError, ParamsError: the parameters or notebooks do not exist or are not valid. Nothing has run.
        SeriesError: a notebook failed, or another series is at work on this run. Finished chapters stay.
    """
    from envtune.workbook import overview, report

    notebooks_dir = notebooks_dir.resolve() if notebooks_dir else find_root() / "notebooks"
    steps = _plan(Path(params_path), notebooks_dir, chapters)
    selected = [step for step in steps if step.chapter.name in _select(only, steps)]
    for step in selected:
        try:
            step.params.ready()
        except ValueError as error:
            raise ParamsError(f"{params_path}: {error}") from None
    root = notebooks_dir.parent
    run_dir = _run_dir(root, steps)
    series = _Series(root, run_dir, provenance.source_hash(), provenance.data_version())
    names = [step.chapter.name for step in steps]
    with alone(run_dir):
        for name in names:
            folders.recover(run_dir / name, _replaced(echo))
        try:
            if only is not None:
                _check_needs(series, selected[0], steps)
            return [_run_step(series, step, force, echo) for step in selected]
        finally:
            report.refresh(run_dir, names)
            compared = against_published(run_dir, root)
            overview.write_index(run_dir, names, compared)
            echo(f"{'report':<20} {relative(run_dir / 'index.html')}")
            if compared:
                echo(f"{'published run':<20} {compared.sentence()}")


def planned(params_path: Path | str) -> tuple[Path, list[Common]]:
    """The folder of a parameter file's run, and every chapter's parameters. Nothing is run."""
    notebooks_dir = find_root() / "notebooks"
    steps = _plan(Path(params_path), notebooks_dir, CHAPTERS)
    return _run_dir(notebooks_dir.parent, steps), [step.params for step in steps]


def _plan(params_path: Path, notebooks_dir: Path, chapters: Sequence[Chapter]) -> list[_Step]:
    values = load_params(params_path)
    if "arms" in values:
        raise ParamsError(f"{params_path} is the file of an experiment. `envtune arms {params_path}` runs it")
    listed = {notebooks_dir / notebook_name(chapter.name): chapter for chapter in chapters}
    notebooks = {path: chapter for path, chapter in listed.items() if path.is_file()}
    if not notebooks:
        raise FileNotFoundError(f"no notebook of the series in '{notebooks_dir}', expected {notebook_name('01_...')}")
    resolved = resolve(notebooks, values, str(params_path))
    steps = []
    for path, chapter in notebooks.items():
        params = resolved[chapter.name]
        given = {key: value for key, value in params.model_dump().items() if key in values}
        steps.append(_Step(chapter, path, params, given))
    return steps


def _select(only: str | None, steps: Sequence[_Step]) -> list[str]:
    names = [step.chapter.name for step in steps]
    if only is None:
        return names
    found = [name for name in names if name == only] or [name for name in names if name.startswith(only)]
    if len(found) != 1 or not only:
        raise SeriesError(f"--only {only}: expected one of {', '.join(names)}, or the beginning of exactly one of them")
    return found


def _run_dir(root: Path, steps: Sequence[_Step]) -> Path:
    folders = {(step.params.results, step.params.run) for step in steps}
    if len(folders) > 1:
        raise SeriesError("the notebooks differ in `run` or `results`. Set both in the parameter file")
    results, run = folders.pop()
    return root / results / run


@contextmanager
def alone(run_dir: Path) -> Iterator[None]:
    """Make a run's folder and hold its lock. The system releases it when the process ends, however it ends."""
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        with lock(run_dir.with_name(f".{run_dir.name}.lock")):
            with lock(kernel_lock(run_dir), timeout=ORPHAN_TIMEOUT):
                pass  # the kernel of a killed series has ended and writes no more
            yield
    except Timeout:
        raise SeriesError(
            f"another series is at work on run '{run_dir.name}'. Wait for it to end, or give this one another `run`"
        ) from None


def _run_step(series: _Series, step: _Step, force: bool, echo: Callable[[str], None]) -> Outcome:
    from envtune.workbook import kernel

    name = step.chapter.name
    key = _key(series, step)
    final, partial = series.run_dir / name, partial_dir(series.run_dir, name)
    if not force and is_current(partial, key):  # complete, but killed before the swap
        _swap(partial, final, echo)
    if not force and is_current(final, key):
        echo(f"{name:<20} up to date")
        return Outcome(name, None)
    started = time.monotonic()
    mine = work.identity(step.chapter, step.params, series.run_dir, series.code)
    work.claim(partial, mine, echo, keep=not force, clean=True)
    (partial / MANIFEST).unlink(missing_ok=True)  # the manifest proves that this execution reached its end
    kernel.execute(
        step.notebook,
        partial / notebook_name(name),
        step.given,
        environment={STEP_DIR: str(partial), work.SERIES_CODE: sources.running()},
        cwd=step.notebook.parent,
    )
    _complete(series, step, partial, key)
    _swap(partial, final, echo)
    seconds = time.monotonic() - started
    answer = read_manifest(final)["answer"]["headline"]
    echo(f"{name:<20} {seconds:.1f} s  {answer}")
    return Outcome(name, seconds)


def _key(series: _Series, step: _Step) -> str:
    """What a chapter's result depends on. Where it is written (`run`, `results`) and the computer do not count."""
    import nbformat

    cells = nbformat.read(step.notebook, as_version=4).cells
    results = series.run_dir.parent
    needed = {}
    for need in step.chapter.needs:
        folder = series.run_dir / need
        if not (folder / MANIFEST).is_file():
            raise SeriesError(f"{step.chapter.name} needs the results of {need}. Run that first, or leave out --only")
        manifest = read_manifest(folder)
        needed[need] = [manifest.get("key"), manifest["answer"]]
    return provenance.sha256_json(
        {
            "chapter": step.chapter.name,
            "parameters": step.params.model_dump(exclude={"run", "results"}),
            "weights": work.weights(getattr(step.params, "policy", "")),
            "cells": [[cell.cell_type, cell.source, cell.metadata.get("tags", [])] for cell in cells],
            "code": series.code,
            "data": series.data,
            "needs": needed,
            "reads": {
                name: provenance.sha256_file(path)
                for name in step.chapter.reads
                if (path := file_of_run(series.root, results, name))
            },
        }
    )


def _check_needs(series: _Series, step: _Step, steps: Sequence[_Step]) -> None:
    """Refuse to run one chapter on results that other parameters, code or cells made.

    Raises:
        SeriesError: others made them, or they are missing.
    """
    _key(series, step)  # raises if they are missing
    for its in (other for other in steps if other.chapter.name in step.chapter.needs):
        folder = series.run_dir / its.chapter.name
        if not is_current(folder, _key(series, its)):
            work.check_need(step.chapter.name, folder, its.params, series.code, free=frozenset({"run", "results"}))
            raise SeriesError(
                f"{step.chapter.name} builds on {its.chapter.name}, whose cells, inputs or files have changed since. "
                f"Run {its.chapter.name} again first, or leave out --only"
            )


def _swap(partial: Path, final: Path, echo: Callable[[str], None]) -> None:
    """Put a complete chapter in its place. An earlier one with the same work is deleted, another one is set aside."""
    folders.swap(partial, final, shutil.rmtree if work.same_work(partial, final) else _replaced(echo))


def _replaced(echo: Callable[[str], None]) -> Callable[[Path], None]:
    return lambda folder: work.put_away(folder, echo, "new results take its place")


def _complete(series: _Series, step: _Step, partial: Path, key: str) -> None:
    """Check that the notebook called `finish`, and complete its manifest."""
    import nbformat

    from envtune.workbook import kernel, report

    name = step.chapter.name
    if not (partial / MANIFEST).is_file():
        raise SeriesError(f"{step.notebook.name} ended without an answer: its last cell must call nb.finish(...)")
    manifest = read_manifest(partial)
    if manifest["notebook"] != name:
        raise SeriesError(f"{step.notebook.name} calls begin('{manifest['notebook']}'): names must agree")
    executed = partial / notebook_name(name)
    report.clean_executed(executed, series.root)
    title, question = report.title_and_question(nbformat.read(executed, as_version=4))
    outputs = provenance.hash_folder(partial, skip={MANIFEST, report_name(name)})
    manifest |= {"title": title, "question": question, "outputs": outputs, "key": key, "work": work.record(partial)}
    report.write_report(partial, manifest)
    provenance.write_json(partial / MANIFEST, manifest)
    for helper in (work.RECORD, kernel.KERNEL_LOG):
        (partial / helper).unlink(missing_ok=True)
