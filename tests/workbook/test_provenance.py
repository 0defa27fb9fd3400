"""Provenance: JSON without surprises, hashes, and writes that are whole or not there."""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub_chapters import Alpha

from envtune.workbook import provenance
from envtune.workbook.provenance import to_jsonable, write_atomic, write_json


class Colour(StrEnum):
    RED = "red"


@dataclass
class Record:
    path: Path
    values: tuple[int, ...]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([1.0, np.nan]), [1.0, None]),
        (float("nan"), None),
        (float("-inf"), None),
        (pd.Series([1, 2]), [1, 2]),
        (Colour.RED, "red"),
        ({Colour.RED: 1, 2: np.float64("inf")}, {"red": 1, "2": None}),
        ({3, 1, 2}, [1, 2, 3]),
        (Record(Path("a/b"), (1, 2)), {"path": "a/b", "values": [1, 2]}),
        (
            Alpha(run="r", results="x", seed=0, n=1, rate=0.5),
            {"run": "r", "results": "x", "seed": 0, "n": 1, "rate": 0.5},
        ),
    ],
)
def test_what_notebooks_compute_becomes_plain_json(value, plain):
    converted = to_jsonable(value)
    assert converted == plain
    json.dumps(converted, allow_nan=False)


def test_what_is_not_json_is_named():
    with pytest.raises(TypeError, match="a value of type object cannot be written as JSON"):
        to_jsonable({"x": object()})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(values)
def test_written_json_reads_back_as_written(value):
    converted = to_jsonable(value)
    assert json.loads(json.dumps(converted, allow_nan=False)) == converted
    assert provenance.sha256_json(value) == provenance.sha256_json(converted)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(provenance.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "half")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_hash_folder_leaves_hidden_files_out(tmp_path):
    for name in ("a.txt", "sub/b.txt", "sub/manifest.json", "manifest.json", ".key", ".cache/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert list(provenance.hash_folder(tmp_path, skip={"manifest.json"})) == [
        "a.txt",
        "sub/b.txt",
        "sub/manifest.json",
    ]


def test_source_hash_sees_content_and_names(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    first = provenance.source_hash(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/a.pyc").write_text("no source")
    assert provenance.source_hash(tmp_path) == first
    (tmp_path / "model.safetensors").write_text("weights")
    assert provenance.source_hash(tmp_path) != first
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    renamed = provenance.source_hash(tmp_path)
    (tmp_path / "b.py").write_text("x = 2")
    assert len({first, renamed, provenance.source_hash(tmp_path)}) == 3


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    hooks = ["-c", "core.hooksPath=/dev/null"]
    subprocess.run(["git", "-C", str(folder), *identity, *hooks, *arguments], check=True, capture_output=True)


def test_git_state_ignores_results_and_works_from_a_subfolder(tmp_path):
    assert provenance.git_state(tmp_path) == {"revision": None, "dirty": None}
    git(tmp_path, "init", "--quiet")
    (tmp_path / "package").mkdir()
    (tmp_path / "package/a.py").write_text("x = 1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    (tmp_path / "results").mkdir()
    (tmp_path / "results/new.txt").write_text("a run's output")
    state = provenance.git_state(tmp_path / "package")
    assert len(state["revision"]) == 40
    assert state["dirty"] is False
    (tmp_path / "elsewhere.txt").write_text("x")
    assert provenance.git_state(tmp_path / "package")["dirty"] is True


def test_versions_of_the_extras_count_but_not_those_of_dev(monkeypatch):
    needed = ["pydantic", 'torch==2.13.0; extra == "train"', 'envtune[train]; extra == "dev"', "pytest; extra == 'dev'"]
    monkeypatch.setattr(provenance.metadata, "requires", lambda name: needed)
    assert {"pydantic", "torch"} <= set(provenance.versions())
    assert "pytest" not in provenance.versions()


@pytest.mark.parametrize(
    ("flags", "vectors"),
    [("fma avx2 avx512f avx512dq avx512bw avx512vl", "AVX512"), ("avx fma avx2 avx512f", "AVX2"), ("sse4_2 avx", "")],
)
def test_the_machine_says_what_decides_the_last_bits_of_a_sum(monkeypatch, tmp_path, flags, vectors):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: {flags}\nbugs\t\t: fma\n")
    monkeypatch.setattr(provenance, "CPUINFO", cpuinfo)
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    machine = provenance.machine.__wrapped__()
    assert (machine["cpu"], machine["vectors"]) == ("Some CPU", vectors)
    assert machine["kernels"].items() >= {"MKL_CBWR": "COMPATIBLE"}.items()
    assert "ATEN_CPU_CAPABILITY" not in machine["kernels"]


def test_machine_and_versions_say_enough_and_no_name():
    machine = provenance.machine()
    assert machine["cores"] >= 1
    assert machine["memory_gb"] > 0
    if len(platform.node()) > 3:
        assert platform.node() not in json.dumps(machine)
    assert {"envtune", "pydantic", "papermill"} <= set(provenance.versions())
    assert provenance.peak_memory_mb() > 10
    assert set(provenance.data_version()) >= {"bfcl-eval", "sha256"}
