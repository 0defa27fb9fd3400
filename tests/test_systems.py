"""Other systems than Linux, as far as one can tell here: what macOS refuses is refused, Windows gets one line."""

from __future__ import annotations

import ast
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import envtune
from envtune import processes

PACKAGE = Path(envtune.__file__).parent

LIKE_MACOS = """
import resource
limit = resource.setrlimit
def setrlimit(which, limits):
    if which == resource.RLIMIT_AS:
        raise ValueError("current limit exceeds maximum limit")
    limit(which, limits)
resource.setrlimit = setrlimit
"""


def test_without_address_limits_files_are_rescored_and_the_guards_searched(tmp_path, by_id):
    (tmp_path / "sitecustomize.py").write_text(LIKE_MACOS)
    script = (
        "import envtune\nfrom envtune.benchmark.rescore import rescore_episodes\n"
        "from envtune.studies.fuzz import fuzz\n"
        "if __name__ == '__main__':\n"
        "    tasks = envtune.load_tasks('bfcl', split='val')[:3]\n"
        "    played = envtune.evaluate(envtune.load_policy('oracle'), tasks, progress=False).episodes\n"
        "    found = rescore_episodes(played, tasks)\n"
        "    print(found.table().to_dict('list'), fuzz(50).ok)\n"
    )
    (tmp_path / "script.py").write_text(script)
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, tmp_path / "script.py"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "'official': [1.0" in done.stdout
    assert done.stdout.endswith("True\n")


def test_a_refused_limit_is_no_error(monkeypatch):
    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert processes.limit_memory(1 << 40) is False


def test_address_limits_are_set_in_one_place():
    for path in PACKAGE.rglob("*.py"):
        found = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert "RLIMIT_AS" not in found or path.name == "processes.py", path


@pytest.mark.parametrize("command", ["import envtune", "from envtune.cli import main; main()"])
def test_windows_gets_one_line(command):
    script = f"import sys; sys.platform = 'win32'; sys.modules['fcntl'] = sys.modules['resource'] = None; {command}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "envtune: error: Windows is not supported. Use Linux or macOS, such as Linux in WSL\n"


def test_the_memory_of_this_process_is_known_with_and_without_proc(monkeypatch):
    here = processes.resident_memory(), processes.peak_memory()
    monkeypatch.setattr(Path, "exists", lambda self: False)
    for found, expected in zip((processes.resident_memory(), processes.peak_memory()), here, strict=True):
        assert expected / 3 < found < expected * 3


def test_threads_wait_passively_unless_the_user_says_otherwise():
    script = "import os; from envtune.policy import set_threads; set_threads(1); print(os.environ['OMP_WAIT_POLICY'])"
    told = {}
    for given in ({}, {"OMP_WAIT_POLICY": "ACTIVE"}):
        environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"} | given
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        told[done.stdout.strip()] = given
    assert told == {"PASSIVE": {}, "ACTIVE": {"OMP_WAIT_POLICY": "ACTIVE"}}
