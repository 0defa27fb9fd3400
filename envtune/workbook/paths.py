"""Where things lie: the project's root, the folders of a run, and the published runs."""

from __future__ import annotations

from pathlib import Path

MANIFEST = "manifest.json"
PUBLISHED = "published"
"""The folder of the published runs in `results/`; no run may have this name."""


def find_root(start: Path | None = None) -> Path:
    """The project's root: the nearest folder at or above `start` that holds `notebooks/` and `params/`.

    Args:
        start: where to begin; default: the working directory, and after it the package's own checkout.

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
        f"no folder at or above '{here}' holds both notebooks/ and params/; change into the project's checkout first"
    )


def run_folder(run: str) -> Path:
    """The folder of a run, from its path or from its name."""
    return Path(run) if Path(run).is_dir() else find_root() / "results" / run


def published_folder(root: Path, run: str) -> Path:
    """Where the published copy of a run lies, if there is one: in the project, tracked by git."""
    return root / "results" / PUBLISHED / run


def file_of_run(root: Path, results: Path, name: str) -> Path | None:
    """A file of another run: the user's own, or else the published one; None if neither is there.

    A run that has no manifest yet is read only if no such run is published, so tables of the two never mix.

    Args:
        root: the project's root.
        results: the folder of all runs of the user.
        name: `<run>/<file>`.
    """
    own, published = results / name, published_folder(root, name)
    first, second = (own, published) if own.with_name(MANIFEST).is_file() else (published, own)
    return next((path for path in (first, second) if path.is_file()), None)


def partial_dir(run_dir: Path, chapter: str) -> Path:
    """Where a chapter writes while the series runs it; it takes its place under `run_dir` when it is complete."""
    return run_dir / f".{chapter}.partial"


def report_name(chapter: str) -> str:
    """File name of a chapter's report."""
    return f"{chapter}.html"


def notebook_name(chapter: str) -> str:
    """File name of a chapter's notebook, source and executed copy alike."""
    return f"{chapter}.ipynb"


def kernel_lock(run_dir: Path) -> Path:
    """The lock that a kernel of the series holds on its run as long as it lives."""
    return run_dir.with_name(f".{run_dir.name}.kernel.lock")
