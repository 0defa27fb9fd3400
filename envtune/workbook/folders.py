"""A folder that takes its place when it is complete: a reader sees the old one or the new one."""

from __future__ import annotations

import shutil
from pathlib import Path


def swap(new: Path, final: Path) -> None:
    """Put `new` where `final` is or shall be; after a kill in between, `recover` finishes."""
    old = _old(final)
    if final.exists():
        final.rename(old)
    new.rename(final)
    if old.exists():
        shutil.rmtree(old)


def recover(final: Path) -> None:
    """Finish what a kill in the middle of `swap` left: the old folder if the new one is not in place."""
    old = _old(final)
    if not old.exists():
        return
    if final.exists():
        shutil.rmtree(old)
    else:
        old.rename(final)


def _old(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")
