"""The command line: what it prints where, and the exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from envtune import evaluation
from envtune.cli import app
from envtune.data import bfcl
from envtune.training import machine
from envtune.workbook import doctor, series
from envtune.workbook.errors import ParamsError, SeriesError

runner = CliRunner()


def test_help_and_version():
    help_text = runner.invoke(app, ["--help"]).output
    assert all(command in help_text for command in ("run", "doctor", "readme"))
    assert runner.invoke(app, ["--version"]).output.startswith("envtune ")


def test_asking_for_help_loads_nothing_heavy():
    script = "import sys, envtune.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "papermill", "matplotlib", "nbformat"} & set(done.stdout.split())


@pytest.mark.parametrize("arguments", [["run"], ["nosuch"], ["run", "x.yaml", "--nosuch"]])
def test_wrong_usage_is_exit_code_2(arguments):
    assert runner.invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (ParamsError("a: one\nb: two"), ["envtune: error: a: one", "envtune: error: b: two"]),
        (SeriesError("failed", "the traceback's tail"), ["the traceback's tail", "envtune: error: failed"]),
        (FileNotFoundError("no file x"), ["envtune: error: no file x"]),
        (OSError(28, "No space left on device"), ["envtune: error: [Errno 28] No space left on device"]),
    ],
)
def test_expected_errors_are_lines_not_tracebacks(monkeypatch, error, lines):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(series, "run_series", fail)
    result = runner.invoke(app, ["run", "x.yaml"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == lines


def test_an_interrupt_says_that_the_command_goes_on_only_if_it_does(monkeypatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for module, name in ((series, "run_series"), (doctor, "examine"), (evaluation, "evaluate_samples")):
        monkeypatch.setattr(module, name, interrupt)
    for command, says in {
        "run x.yaml": "interrupted. The same command goes on from here",
        "doctor": "interrupted",
        "evaluate oracle": "interrupted. With --out, the same command goes on from here",
    }.items():
        result = runner.invoke(app, command.split())
        assert (result.exit_code, result.stderr.strip()) == (130, f"envtune: error: {says}")


def test_a_missing_parameter_file_end_to_end(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "envtune", "run", str(tmp_path / "none.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("envtune: error: no parameter file")


def test_options_reach_the_series(monkeypatch):
    seen: dict[str, object] = {}
    monkeypatch.setattr(series, "run_series", lambda path, **options: seen.update(path=path, **options))
    assert runner.invoke(app, ["run", "p.yaml", "--only", "03", "--force"]).exit_code == 0
    assert (seen["path"], seen["only"], seen["force"]) == (Path("p.yaml"), "03", True)


def project(folder: Path, constraints: str = "") -> Path:
    for name in ("notebooks", "params"):
        (folder / name).mkdir()
    (folder / "constraints.txt").write_text(constraints)
    return folder


def findings(monkeypatch: pytest.MonkeyPatch, folder: Path) -> tuple[int, dict[str, str]]:
    monkeypatch.chdir(folder)
    result = runner.invoke(app, ["doctor"])
    lines = result.output.splitlines()
    return result.exit_code, {line.split()[1]: line for line in lines}


def test_doctor_on_a_sound_machine(tmp_path, monkeypatch):
    code, lines = findings(monkeypatch, project(tmp_path))
    assert code == 0
    assert list(lines) == ["Python", "extras", "versions", "benchmark", "disk", "results", "GPU", "browser"]
    assert all(line.startswith(("ok", "WARN")) for line in lines.values())


NVIDIA = """#!/bin/sh
case "$1" in *driver_version) echo {driver};; *) echo NVIDIA H100;; esac
"""


@pytest.mark.parametrize(
    ("driver", "cuda", "vllm", "says"),
    [
        ("580.95.05", ("13.0", True), "0.31.0", {"CUDA": "ok 13.0, driver 580.95.05", "vLLM": "ok 0.31.0"}),
        ("550.54.14", ("13.0", False), "0.31.0", {"CUDA": "WARN torch is built for CUDA 13.0, which needs driver 580"}),
        ("580.95.05", ("13.0", False), "0.31.0", {"CUDA": "WARN torch is built for CUDA 13.0 and cannot use the GPU"}),
        ("580.95.05", (None, False), "0.30.0", {"CUDA": "WARN torch is built without", "vLLM": "WARN 0.30.0 (not"}),
        ("580.95.05", ("13.0", True), None, {"vLLM": "WARN not installed, so sampler 'vllm' does not run"}),
    ],
)  # fmt: skip
def test_doctor_on_a_gpu_machine(tmp_path, monkeypatch, driver, cuda, vllm, says):
    """`nvidia-smi` and an installed vLLM are stand-ins. A real one prints the same lines."""
    command = tmp_path / "bin/nvidia-smi"
    command.parent.mkdir()
    command.write_text(NVIDIA.format(driver=driver))
    command.chmod(0o755)
    if vllm:
        told = tmp_path / f"packages/vllm-{vllm}.dist-info/METADATA"
        told.parent.mkdir(parents=True)
        told.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {vllm}\n")
        monkeypatch.syspath_prepend(told.parents[1])
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)
    monkeypatch.setattr(machine, "cuda", lambda: cuda)
    code, lines = findings(monkeypatch, project(tmp_path))
    assert code == 0
    assert lines["GPU"] == "ok    GPU        NVIDIA H100"
    for subject, text in says.items():
        verdict, said = text.split(maxsplit=1)
        assert lines[subject].startswith(f"{verdict:<5} {subject:<10} {said}")


def test_doctor_fails_without_the_workbook(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.extras, "find_spec", lambda name: None if name == "papermill" else name)
    code, lines = findings(monkeypatch, project(tmp_path))
    assert code == 1
    assert lines["extras"].endswith("pip install 'envtune[workbook]'")


def test_doctor_warns_of_other_versions(tmp_path, monkeypatch):
    code, lines = findings(monkeypatch, project(tmp_path, "pytest==0.0.1\nPyYAML==0.1\nnot-installed==1\n"))
    assert code == 0
    assert lines["versions"].startswith("WARN  versions   differ from constraints.txt: pytest ")
    assert "(not 0.0.1), PyYAML" in lines["versions"]
    assert "not-installed" not in lines["versions"]


@pytest.mark.parametrize("error", [FileNotFoundError("x.json is\nmissing"), ValueError("x.json: expected a")])
def test_doctor_fails_without_the_benchmark(tmp_path, monkeypatch, error):
    def fail() -> None:
        raise error

    monkeypatch.setattr(bfcl, "check_files", fail)
    code, lines = findings(monkeypatch, project(tmp_path))
    assert code == 1
    assert lines["benchmark"] == f"FAIL  benchmark  {' '.join(str(error).split())}"


def test_doctor_fails_where_results_cannot_be_written(tmp_path, monkeypatch):
    (project(tmp_path) / "results").write_text("a file, not a folder")
    code, lines = findings(monkeypatch, tmp_path)
    assert code == 1
    assert lines["results"].startswith("FAIL  results    results/ is not writable")


def test_doctor_says_when_the_disk_is_small(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "FREE_GB", 1e9)
    code, lines = findings(monkeypatch, project(tmp_path))
    assert code == 0
    assert lines["disk"].startswith("WARN")


def test_readme_check(tmp_path, monkeypatch):
    monkeypatch.chdir(project(tmp_path))
    result = runner.invoke(app, ["readme", "--check"])
    assert result.exit_code == 1
    assert result.stderr.startswith("envtune: error: ")
