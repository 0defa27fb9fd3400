"""A folder that is replaced only when the new one is complete: a reader sees the old one or the new one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

PutAway = Callable[[Path], object]
"""What happens to the old folder."""


def swap(new: Path, final: Path, put_away: PutAway = shutil.rmtree) -> None:
    """Put `new` in the place of `final`. After a kill in between, `recover` finishes."""
    old = _old(final)
    if final.exists():
        final.rename(old)
    new.rename(final)
    if old.exists():
        put_away(old)


def recover(final: Path, put_away: PutAway = shutil.rmtree) -> None:
    """Finish after a kill in the middle of `swap`: restore the old folder if the new one is missing."""
    old = _old(final)
    if not old.exists():
        return
    if final.exists():
        put_away(old)
    else:
        old.rename(final)


def _old(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")
