"""One process at a time, with and without `flock`."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys

import pytest
from filelock import FileLock, SoftFileLock, Timeout

from envtune import locks
from envtune.workbook import doctor
from envtune.workbook.doctor import Verdict

HOLD = """
import sys
from envtune import locks
with locks.lock(__import__("pathlib").Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""
WITHOUT = """
import fcntl
def refuse(*_):
    raise OSError({code}, "refused")
fcntl.flock = refuse
"""


@pytest.fixture(params=[None, errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK], ids=["flock", "ENOSYS", "ENOTSUP", "ENOLCK"])
def code(request, monkeypatch):
    """What `flock` answers here and in the process that `HOLD` starts."""

    def refuse(*_: object) -> None:
        raise OSError(request.param, "refused")

    if request.param:
        monkeypatch.setattr(fcntl, "flock", refuse)
    return request.param


@pytest.mark.filterwarnings("ignore::envtune.locks.NoLockWarning")
def test_one_process_holds_a_lock_and_a_killed_one_gives_way(tmp_path, code):
    path = tmp_path / ".run.lock"
    script = (WITHOUT.format(code=code) if code else "") + HOLD
    other = subprocess.Popen([sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(Timeout):
        locks.lock(path).acquire()
    other.kill()
    other.communicate()
    with locks.lock(path, timeout=5) as held:
        assert isinstance(held, SoftFileLock if code else FileLock)


def test_a_file_system_without_flock_is_named(tmp_path, code):
    finding = doctor._results(tmp_path)
    assert locks.has_flock(tmp_path) is (code is None)
    assert list(tmp_path.iterdir()) == []
    if code is None:
        assert finding.verdict is Verdict.OK
        return
    assert finding.verdict is Verdict.WARN and "has no locks (flock)" in finding.text
    with pytest.warns(locks.NoLockWarning, match=f"the file system of '{tmp_path}' has no locks"):
        locks.lock(tmp_path / "x")


def test_another_error_of_flock_is_no_missing_lock(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        locks.lock(tmp_path / "x")
