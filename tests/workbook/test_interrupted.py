"""A series that is killed or interrupted from outside, and the one that comes after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import sys
from pathlib import Path
from stub_chapters import CHAPTERS
from envtune import sources
from envtune.workbook import provenance
from envtune.workbook.series import run_series
provenance.source_hash, sources.running = lambda: "as it is", lambda *_: ""
run_series("params/test.yaml", notebooks_dir=Path("notebooks"), chapters=CHAPTERS)
"""
# Appends a line per item and goes on where it stopped, as evaluation and training do.
ITEMS = 8
WORK = """
import os, time
from pathlib import Path
log = nb.path("work.txt")
done = len(log.read_text().splitlines()) if log.exists() else 0
Path("pid").write_text(str(os.getpid()))
for item in range(done, ITEMS):
    with log.open("a") as file:
        file.write(f"{item}\\n")
    time.sleep(0.2)
"""

LONG_WORK = WORK.replace("ITEMS", "1000")
WORK = WORK.replace("ITEMS", str(ITEMS))


def start(root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT]
    return subprocess.Popen(command, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(path: Path, lines: int = 1, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists() or len(path.read_text().splitlines()) < lines:
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_for_end(pid: int, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while is_alive(pid):
        assert time.monotonic() < deadline, f"kernel {pid} lives on"
        time.sleep(0.1)


def test_killed_in_the_middle_the_next_run_goes_on_and_ends_the_same(project):
    project.beta(WORK)
    first = start(project.root)
    partial = project.run_dir / ".02_beta.partial"
    wait_for(partial / "work.txt", lines=3)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    alpha = project.manifest("01_alpha")
    assert not (project.run_dir / "02_beta").exists()

    assert project.ran() == ["02_beta"], "the finished step is not run again"
    assert not is_alive(int((project.root / "notebooks/pid").read_text()))
    assert project.manifest("01_alpha") == alpha
    written = (project.run_dir / "02_beta/work.txt").read_text().splitlines()
    assert written == [str(i) for i in range(ITEMS)], "each item once, in order: no orphan wrote along"
    assert not partial.exists()


def test_ctrl_c_ends_the_kernel_too_and_says_so_in_one_line(project):
    project.alpha(LONG_WORK)
    script = SCRIPT.split("run_series(")[0] + (
        "import envtune.workbook.series as s\n"
        "import functools\n"
        "s.run_series = functools.partial(run_series, notebooks_dir=Path('notebooks'), chapters=CHAPTERS)\n"
        "sys.argv = ['envtune', 'run', 'params/test.yaml']\n"
        "from envtune.cli import main\n"
        "main()\n"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=project.root,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored, if a shell runs the tests with `&`
    )
    wait_for(project.run_dir / ".01_alpha.partial/work.txt", lines=2)
    kernel_pid = int((project.root / "notebooks/pid").read_text())
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=180)
    assert running.returncode == 130
    assert errors.strip().splitlines() == ["envtune: error: interrupted. The same command goes on from here"]
    wait_for_end(kernel_pid)
    assert not (project.run_dir / "01_alpha").exists()


def test_two_at_once_one_is_refused(project):
    project.alpha(LONG_WORK)
    first = start(project.root)
    wait_for(project.run_dir / ".01_alpha.partial/work.txt")
    second = start(project.root)
    _, errors = second.communicate(timeout=180)
    assert "another series is at work on run 'test'" in errors.splitlines()[-1]
    assert first.poll() is None, "the first goes on"
    first.kill()
    first.communicate()
    wait_for_end(int((project.root / "notebooks/pid").read_text()))
