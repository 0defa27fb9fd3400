"""Paths: the project's root, the folders of a run, and the published runs."""

from __future__ import annotations

import os
from pathlib import Path

MANIFEST = "manifest.json"
PUBLISHED = "published"
"""The folder of the published runs in `results/`. No run may have this name."""


def find_root(start: Path | None = None) -> Path:
    """The project's root: the nearest folder at or above `start` that holds `notebooks/` and `params/`.

    Args:
        start: where to begin. Default: the working directory, then the package's own checkout.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    here = (start or Path.cwd()).resolve()
    candidates = [here, *here.parents]
    if start is None:
        candidates.append(Path(__file__).resolve().parents[2])
    for folder in candidates:
        if (folder / "notebooks").is_dir() and (folder / "params").is_dir():
            return folder
    raise FileNotFoundError(
        f"no folder at or above '{here}' holds both notebooks/ and params/. Change into the project's checkout first"
    )


def run_folder(run: str) -> Path:
    """The folder of a run, from its path or from its name."""
    return named(Path(run)) if Path(run).is_dir() else find_root() / "results" / run


def named(folder: Path) -> Path:
    """The same folder by a path that ends with its name, unlike `.` and `..`."""
    return folder.resolve() if folder.name in ("", "..") else folder


def published_folder(root: Path, run: str) -> Path:
    """The folder of a run's published copy, tracked by git. It may not exist."""
    return root / "results" / PUBLISHED / run


def file_of_run(root: Path, results: Path, name: str) -> Path | None:
    """A file of another run: the user's own, else the published one. None if neither exists.

    A run without a manifest is read only if no such run is published, so tables of the two never mix.

    Args:
        root: the project's root.
        results: the folder of the user's runs.
        name: `<run>/<file>`.
    """
    own, published = results / name, published_folder(root, name)
    first, second = (own, published) if own.with_name(MANIFEST).is_file() else (published, own)
    return next((path for path in (first, second) if path.is_file()), None)


def relative(path: Path) -> str:
    """A path as the user would write it here."""
    here = Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)


def partial_dir(run_dir: Path, chapter: str) -> Path:
    """Where a chapter writes while the series runs it. The complete folder moves to its place in `run_dir`."""
    return run_dir / f".{chapter}.partial"


def report_name(chapter: str) -> str:
    """File name of a chapter's report."""
    return f"{chapter}.html"


def notebook_name(chapter: str) -> str:
    """File name of a chapter's notebook, source and executed copy alike."""
    return f"{chapter}.ipynb"


def kernel_lock(run_dir: Path) -> Path:
    """The lock on a run that a kernel of the series holds until it ends."""
    return run_dir.with_name(f".{run_dir.name}.kernel.lock")
