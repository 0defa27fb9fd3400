"""Is this machine ready? One finding per thing that a run needs, each with what to do about it."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from envtune import extras
from envtune.locks import has_flock
from envtune.workbook import provenance
from envtune.workbook.paths import find_root

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PYTHON = (3, 11)
CUDA_DRIVERS = {12: 525, 13: 580}
"""CUDA's version -> the oldest driver that runs it (CUDA Toolkit release notes, minor version compatibility)."""
FREE_GB = 2.0
"""Advised free disk space. The laptop run, without its Python environment, needs less than half of it."""


class Verdict(StrEnum):
    """How a finding counts."""

    OK = "ok"
    WARN = "WARN"
    """Works, but results may differ or something optional is missing."""
    FAIL = "FAIL"
    """A run would fail."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    subject: str
    verdict: Verdict
    text: str


def examine() -> Iterator[Finding]:
    """Check everything, in the order in which to fix it."""
    yield _python()
    yield _extras()
    try:
        root = find_root()
    except FileNotFoundError as error:
        yield Finding("project", Verdict.FAIL, str(error))
        return
    yield _versions(root / "constraints.txt")
    yield _benchmark()
    yield _disk(root)
    yield _results(root / "results")
    yield from _gpu()
    yield _browser()


def _python() -> Finding:
    found = provenance.platform.python_version()
    if sys.version_info < PYTHON:
        return Finding("Python", Verdict.FAIL, f"{found}; install 3.11 or newer")
    return Finding("Python", Verdict.OK, found)


def _extras() -> Finding:
    lacking = [extra for extra in extras.MODULES if extras.missing(extra)]
    if "workbook" in lacking:
        return Finding("extras", Verdict.FAIL, "a run needs the extra 'workbook': pip install 'envtune[workbook]'")
    without = f"; not installed: {', '.join(lacking)}, which the laptop profile does not need" if lacking else ""
    installed = ", ".join(extra for extra in extras.MODULES if extra not in lacking)
    return Finding("extras", Verdict.OK, installed + without)


def _versions(constraints: Path) -> Finding:
    if not constraints.is_file():
        return Finding("versions", Verdict.WARN, "no constraints.txt here to compare with")
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", constraints.read_text(encoding="utf-8"), re.MULTILINE)
    installed = {_normal(item.metadata["Name"]): item.version for item in metadata.distributions()}
    compared = [(name, pin, installed[_normal(name)]) for name, pin in pins if _normal(name) in installed]
    other = [f"{name} {found} (not {pin})" for name, pin, found in compared if found.split("+")[0] != pin]
    if other:
        more = f" and {len(other) - 4} more" if len(other) > 4 else ""
        text = f"differ from constraints.txt: {', '.join(other[:4])}{more}; `make clean setup` installs those"
        return Finding("versions", Verdict.WARN, text)
    return Finding("versions", Verdict.OK, f"{len(compared)} packages as in constraints.txt")


def _benchmark() -> Finding:
    from envtune.data import bfcl

    try:
        bfcl.check_files()
    except (ImportError, OSError, ValueError) as error:
        return Finding("benchmark", Verdict.FAIL, " ".join(str(error).split()))
    version = ", ".join(f"{name} {value[:12]}" for name, value in bfcl.data_version().items())
    return Finding("benchmark", Verdict.OK, f"all files unchanged ({version})")


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free / 1e9
    verdict = Verdict.OK if free >= FREE_GB else Verdict.WARN
    advice = "" if verdict is Verdict.OK else f"; {FREE_GB} are advised"
    return Finding("disk", verdict, f"{free:.1f} GB free{advice}")


def _results(folder: Path) -> Finding:
    try:
        folder.mkdir(exist_ok=True)
        locks = has_flock(folder)
    except OSError as error:
        return Finding("results", Verdict.FAIL, f"results/ is not writable: {error.strerror}")
    if not locks:
        text = "results/ is writable, but its file system has no locks (flock): do not start a run on two machines"
        return Finding("results", Verdict.WARN, text)
    return Finding("results", Verdict.OK, "results/ is writable and has locks")


def _gpu() -> Iterator[Finding]:
    """The GPUs, and if there are any, what training needs in addition: torch for their CUDA, a driver, vLLM."""
    if not (gpus := provenance.gpus()):
        yield Finding("GPU", Verdict.OK, "none; the laptop profile needs none")
        return
    yield Finding("GPU", Verdict.OK, ", ".join(gpus))
    if not extras.missing("train"):
        yield _cuda(provenance.driver())
    yield _vllm()


def _cuda(driver: str | None) -> Finding:
    from envtune.training.machine import cuda

    version, usable = cuda()
    if version is None:
        text = "torch is built without CUDA, so it trains on the CPU; install PyPI's build: `pip install torch==2.13.0`"
        return Finding("CUDA", Verdict.WARN, text)
    needed, major = CUDA_DRIVERS.get(int(version.split(".")[0])), (driver or "").split(".")[0]
    if needed and major.isdigit() and int(major) < needed:
        text = f"torch is built for CUDA {version}, which needs driver {needed} or newer; this one is {driver}"
        return Finding("CUDA", Verdict.WARN, text)
    if not usable:
        text = f"torch is built for CUDA {version} and cannot use the GPU with driver {driver}; `nvidia-smi` says more"
        return Finding("CUDA", Verdict.WARN, text)
    return Finding("CUDA", Verdict.OK, f"{version}, driver {driver}")


def _vllm() -> Finding:
    wanted = next((line for line in metadata.requires("envtune") or () if line.startswith("vllm==")), "vllm")
    pin = wanted.partition(";")[0].partition("==")[2].strip()
    try:
        found = metadata.version("vllm")
    except metadata.PackageNotFoundError:
        text = "not installed, so sampler 'vllm' does not run: pip install 'envtune[gpu]'"
        return Finding("vLLM", Verdict.WARN, text)
    if found.split("+")[0] != pin:
        return Finding("vLLM", Verdict.WARN, f"{found} (not {pin}): pip install 'envtune[gpu]'")
    return Finding("vLLM", Verdict.OK, found)


def _browser() -> Finding:
    found = next((name for name in BROWSERS if shutil.which(name)), None)
    return Finding("browser", Verdict.OK, found or "none; only the tests that look at the reports need one")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
