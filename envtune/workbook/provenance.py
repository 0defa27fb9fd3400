"""The provenance of a run: code, versions, data, machine, hashes. Also writes that never leave half a file."""

from __future__ import annotations

import enum
import hashlib
import json
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from envtune import processes, sources

PACKAGE = Path(__file__).resolve().parents[1]
CPUINFO = Path("/proc/cpuinfo")
VECTORS = {"AVX512": {"avx512dq", "avx512bw", "avx512vl", "fma"}, "AVX2": {"avx2", "fma"}}
"""Torch's sets of kernels for x86 and the CPU flags that each needs, the widest first."""
KERNEL_VARIABLES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR")
"""Environment variables that choose kernels regardless of the CPU: of torch, of oneDNN, of MKL."""


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old or the new content, never a part. It is on disk on return."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `to_jsonable(value)`, indented, atomically."""
    write_atomic(path, json.dumps(to_jsonable(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def to_jsonable(value: Any) -> Any:
    """`value` as plain JSON types: numpy scalars and arrays, enums, paths, records and sets converted, NaN to None.

    Raises:
        TypeError: it contains something else. The message names its type.
    """
    if isinstance(value, enum.Enum):
        return to_jsonable(value.value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, BaseModel):
        return to_jsonable(value.model_dump())
    if is_dataclass(value) and not isinstance(value, type):
        return to_jsonable(asdict(value))
    if isinstance(value, Mapping):
        return {str(to_jsonable(key)): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(to_jsonable(item) for item in value)
    if hasattr(value, "tolist"):  # numpy and pandas scalars and arrays
        return to_jsonable(value.tolist())
    raise TypeError(f"a value of type {type(value).__name__} cannot be written as JSON. Convert it to numbers or text")


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of a value's canonical JSON."""
    text = json.dumps(to_jsonable(value), sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_folder(folder: Path, skip: Collection[str] = ()) -> dict[str, str]:
    """Relative path -> SHA-256 of every file under `folder`, except hidden ones and the top-level names in `skip`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {
        name: sha256_file(path)
        for name, path in names.items()
        if name not in skip and not any(part.startswith(".") for part in name.split("/"))
    }


def source_hash(package: Path | None = None) -> str:
    """`sources.source_hash` of a package. Default: this one, as it was when this process began."""
    return sources.source_hash(package) if package else sources.running()


def git_state(folder: Path = PACKAGE) -> dict[str, Any]:
    """`revision` and `dirty` of the checkout that holds `folder`, None where git does not say.

    Changes under `results/` do not count: `envtune publish` writes there.
    """
    revision = _output("git", "-C", str(folder), "rev-parse", "HEAD")
    if revision is None:
        return {"revision": None, "dirty": None}
    changes = _output("git", "-C", str(folder), "status", "--porcelain", "--", ":/", ":(top,exclude)results")
    return {"revision": revision, "dirty": None if changes is None else bool(changes)}


def code() -> dict[str, Any]:
    """The running code: `revision` and `dirty` of `git_state`, and the `source_hash` of what makes numbers."""
    return git_state() | {"source_hash": source_hash()}


def changes_text(code: Mapping[str, Any]) -> str:
    """The note after the revision of a `git_state`."""
    if code.get("revision") is None or code["dirty"] is False:
        return ""
    return " with local changes" if code["dirty"] else " (local changes unknown)"


def versions() -> dict[str, str]:
    """Installed versions of envtune, of what it and its extras (but `dev`) depend on, and of the benchmark."""
    names = {"envtune", "bfcl-eval"}
    try:
        needed = metadata.requires("envtune") or []
    except metadata.PackageNotFoundError:  # run from sources that were never installed
        needed = []
    for requirement in needed:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if name and not re.search(r"extra == .dev\b", requirement):
            names.add(name[0])
    return {name: found for name in sorted(names) if (found := _version(name))}


def data_version() -> dict[str, str]:
    """What identifies the benchmark's files (see `envtune.data.bfcl`)."""
    from envtune.data import bfcl

    return bfcl.data_version()


def where_from() -> dict[str, Any]:
    """What numbers depend on in addition to parameters: `code`, `versions`, `data` and `machine`."""
    return {"code": code(), "versions": versions(), "data": data_version(), "machine": machine()}


@cache
def machine() -> dict[str, Any]:
    """Processor, what decides its kernels, cores, memory and GPUs, but nothing that identifies the machine.

    Two CPUs of one name may differ in their vectors, and with them in the last bits of every sum.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "vectors": _vectors(),
        "kernels": {name: os.environ[name] for name in KERNEL_VARIABLES if name in os.environ},
        "cores": affinity,
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "gpus": gpus(),
    }


def gpus() -> list[str]:
    """Names of the NVIDIA GPUs. Asks torch only if something else has imported it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    listed = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return listed.splitlines() if listed else []


def driver() -> str | None:
    """Version of NVIDIA's driver, such as 580.95.05. None: there is none."""
    listed = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return listed.splitlines()[0] if listed else None


def is_laptop(policy: str, gpus: Sequence[str]) -> bool:
    """Whether numbers are a laptop's (no GPU, or the shipped policy), and so not comparable with published ones."""
    return not gpus or policy == "tiny"


def by_laptop(manifest: Mapping[str, Any]) -> bool:
    """`is_laptop` of a chapter's manifest."""
    return is_laptop(manifest["parameters"].get("policy", ""), manifest["machine"]["gpus"])


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in MB."""
    return round(processes.peak_memory() / 1e6, 1)


def _cpu_model() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _vectors() -> str:
    """The widest vectors for which torch has kernels: AVX512, AVX2 or neither (empty)."""
    flags = set(_cpuinfo("flags").split())
    return next((name for name, needed in VECTORS.items() if needed <= flags), "")


def _cpuinfo(field: str) -> str:
    """A field of the first core. Empty on systems other than Linux."""
    if not CPUINFO.exists():
        return ""
    found = re.search(rf"^{field}\s*:\s*(.+)$", CPUINFO.read_text(), re.MULTILINE)
    return found[1].strip() if found else ""


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _output(*command: str) -> str | None:
    """The output of a command, or None if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
