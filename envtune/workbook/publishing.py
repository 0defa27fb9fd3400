"""Publish a run: copy what readers see to `results/published/<run>/`, which git tracks.

In: the folder of a finished run, of the series or of an experiment. Out: reports, executed notebooks, figures, tables,
manifests and training curves (`metrics.jsonl`). Episodes, weights, checkpoints, logs and locks stay where they are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from envtune.workbook import folders, overview, provenance, report
from envtune.workbook.errors import SeriesError
from envtune.workbook.manifest import Manifest, finished, read_experiment
from envtune.workbook.params import CHAPTERS, Chapter
from envtune.workbook.paths import MANIFEST, named, notebook_name, published_folder, report_name
from envtune.workbook.series import alone

SHOWN = {".html", ".ipynb", ".csv", ".png", ".svg"}
"""Kinds of files that a chapter shows."""
METRICS = "metrics.jsonl"
EXPERIMENT = ("summary.csv", "requests.csv", "curves.csv", MANIFEST)
"""Files of `envtune arms`."""
MAX_FILE, MAX_ALL = 2 * 2**20, 10 * 2**20
"""Most bytes of a file and of a run. Git keeps every version forever."""


def publish(run_dir: Path, root: Path, *, allow_dirty: bool = False, chapters: Sequence[Chapter] = CHAPTERS) -> Path:
    """Copy a finished run. An earlier one of the same name is replaced in one step.

    Args:
        run_dir: the run's folder.
        root: the project's root.
        allow_dirty: accept a run from a checkout with local changes.
        chapters: the series. Those whose notebook is in the project must all be complete.

    Returns:
        The published folder.

    Raises:
        SeriesError: there is no such run (then nothing is written), or it is not complete, was changed afterwards,
            comes from several versions of code or data or from a checkout with local changes, is too large, or is at
            work.
    """
    run_dir = named(run_dir)
    if not run_dir.is_dir():
        raise SeriesError(f"no run in '{run_dir}'. Run it first (envtune run params/...)")
    final = published_folder(root, run_dir.name)
    if final.resolve() == run_dir.resolve():
        raise SeriesError(f"'{run_dir}' is the published copy. Name the run in results/ that it is copied from")
    names = [each.name for each in chapters if (root / "notebooks" / notebook_name(each.name)).is_file()]
    of_arms = (run_dir / MANIFEST).is_file() and run_dir.name not in names
    if not of_arms and not any((run_dir / name / MANIFEST).is_file() for name in names):
        raise SeriesError(f"'{run_dir}' holds no finished chapter and no experiment. Name a run, such as results/tiny")
    with alone(run_dir):
        manifests = _experiment(run_dir) if of_arms else _series(run_dir, names)
        _same_origin(manifests, allow_dirty)
        files = list(EXPERIMENT) if of_arms else [*_shown(run_dir, names)]
        _small_enough(run_dir, files)
        folders.recover(final)
        new = final.with_name(f".{final.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        for name in files:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run_dir / name, new / name)
        if not of_arms:
            report.refresh(new, names)  # links to sources start from here
            overview.write_index(new, names, run=final.name)
        folders.swap(new, final)
    return final


def _experiment(run_dir: Path) -> dict[str, Manifest]:
    missing = [name for name in EXPERIMENT if not (run_dir / name).is_file()]
    if missing:
        raise SeriesError(
            f"run '{run_dir.name}' is not finished: {', '.join(missing)} missing. Run `envtune arms` again"
        )
    return {run_dir.name: read_experiment(run_dir)}


def _series(run_dir: Path, names: Sequence[str]) -> dict[str, Manifest]:
    """The manifests of all chapters. Their files are unchanged.

    Raises:
        SeriesError: a chapter is not complete, was changed, or was made from other results of an earlier chapter.
    """
    found = finished(run_dir, names)
    missing = [name for name in names if name not in found]
    if missing or not names:
        raise SeriesError(
            f"run '{run_dir.name}' is not finished: {', '.join(missing) or 'every chapter'} missing. "
            "`envtune run` with its parameter file goes on"
        )
    changed = [
        f"{name}/{file}"
        for name, manifest in found.items()
        for file, digest in manifest["outputs"].items()
        if _is_shown(file) and _differs(run_dir / name / file, digest)
    ]
    stale = [
        f"{name} (made from other results of {need})"
        for name, manifest in found.items()
        for need in names
        if (digest := manifest.get("inputs", {}).get(f"{need}/{MANIFEST}"))
        and _differs(run_dir / need / MANIFEST, digest)
    ]
    if changed or stale:
        raise SeriesError(
            f"changed since the series ran: {', '.join([*changed, *stale])}. Run it again (envtune run params/...)"
        )
    return found


def _differs(path: Path, digest: str) -> bool:
    return not path.is_file() or provenance.sha256_file(path) != digest


def _same_origin(manifests: Mapping[str, Manifest], allow_dirty: bool) -> None:
    for what, of in (("code", lambda m: m["code"]["source_hash"]), ("data", lambda m: m["data"])):
        versions: dict[str, list[str]] = {}
        for name, manifest in manifests.items():
            versions.setdefault(json.dumps(of(manifest)), []).append(name)
        if len(versions) > 1:
            groups = " | ".join(", ".join(names) for names in versions.values())
            raise SeriesError(f"the chapters were made with different {what}: {groups}. Run the series again")
    dirty = [name for name, manifest in manifests.items() if manifest["code"]["dirty"]]
    if dirty and not allow_dirty:
        raise SeriesError(
            f"made from a checkout with local changes: {', '.join(dirty)}. Commit and run again, or give --allow-dirty"
        )


def _shown(run_dir: Path, names: Sequence[str]) -> Iterator[str]:
    """The files to copy, relative to the run's folder."""
    for name in names:
        files = sorted(path.name for path in (run_dir / name).iterdir() if path.is_file())
        yield from (f"{name}/{file}" for file in files if _is_shown(file))
        missing = [file for file in (report_name(name), notebook_name(name)) if file not in files]
        if missing:
            raise SeriesError(f"run '{run_dir.name}' is not finished: {name}/{missing[0]} missing. Run it again")


def _is_shown(file: str) -> bool:
    return "/" not in file and not file.startswith(".") and (Path(file).suffix in SHOWN or file in (MANIFEST, METRICS))


def _small_enough(run_dir: Path, files: Sequence[str]) -> None:
    sizes = {name: (run_dir / name).stat().st_size for name in files}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:5]
    if sum(sizes.values()) > MAX_ALL or sizes[largest[0]] > MAX_FILE:
        told = ", ".join(f"{name} {sizes[name] / 2**20:.1f} MiB" for name in largest)
        raise SeriesError(
            f"too large to publish: {sum(sizes.values()) / 2**20:.1f} MiB, at most {MAX_ALL // 2**20} in all and "
            f"{MAX_FILE // 2**20} a file. The largest: {told}"
        )
