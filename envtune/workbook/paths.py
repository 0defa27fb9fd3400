"""Where things lie: the project's root, and the folders of a run."""

from __future__ import annotations

from pathlib import Path

MANIFEST = "manifest.json"


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
