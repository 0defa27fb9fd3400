"""Locks between processes, also on file systems without `flock`.

In: a path. Out: a lock that one process at a time holds. The system's own lock ends with its process. Where a file
system has none (some network and user-space ones), a marker file with the process's number replaces it, and a warning
says so. A marker of a killed process gives way to the next one on the same machine. On another machine it stays until
somebody deletes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

NO_FLOCK = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK})
"""What a file system without `flock` answers."""


class NoLockWarning(UserWarning):
    """A file system has no `flock`."""


def has_flock(folder: Path) -> bool:
    """Whether files in this folder can be locked by the system."""
    probe = folder / f".flock-{os.getpid()}"
    try:
        with probe.open("wb") as file:
            return _flock(file.fileno())
    finally:
        probe.unlink(missing_ok=True)


def lock(path: Path, timeout: float = 0.0) -> BaseFileLock:
    """A lock that `with` acquires.

    Args:
        path: the lock file. Its folder must exist.
        timeout: seconds to wait, after which `filelock.Timeout` is raised.
    """
    if has_flock(path.parent):
        return FileLock(path, timeout=timeout)
    _warn(path.parent)
    return SoftFileLock(path.with_name(f"{path.name}.pid"), timeout=timeout)


@contextmanager
def alone_with(path: Path, descriptor: int) -> Iterator[None]:
    """Hold the lock on an open file.

    Raises:
        filelock.Timeout: another process holds it.
    """
    try:
        locked = _flock(descriptor)
    except BlockingIOError:
        raise Timeout(str(path)) from None
    if locked:
        yield
        return
    _warn(path.parent)
    with SoftFileLock(path.with_name(f".{path.name}.pid"), timeout=0):
        yield


def _flock(descriptor: int) -> bool:
    """Lock an open file until it is closed. False: the file system cannot."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_FLOCK:
            return False
        raise
    return True


def _warn(folder: Path) -> None:
    warnings.warn(
        f"the file system of '{folder}' has no locks (flock). A marker file replaces them: start no second run on the "
        "same files from another machine",
        NoLockWarning,
        stacklevel=3,
    )
