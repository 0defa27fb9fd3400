"""The extras for a GPU resolve to the versions that are pinned. Nothing is installed. It takes minutes of network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HERE = sys.platform == "linux" and sys.version_info[:2] == (3, 11)


def pins(name: str) -> dict[str, str]:
    """Package -> version, of one file."""
    lines = (ROOT / name).read_text().splitlines()
    return {normal(line.split("==")[0]): line.split("==")[1] for line in lines if line and line[0] not in "#-"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_two_files_of_pins_share_none():
    """So that no package can have two versions."""
    shared, gpu = pins("constraints.txt"), pins("constraints-gpu.txt")
    assert "--constraint constraints.txt" in (ROOT / "constraints-gpu.txt").read_text()
    assert not shared.keys() & gpu.keys()
    extras, both = (ROOT / "pyproject.toml").read_text(), shared | gpu
    for name in ("vllm", "deepspeed", "torch", "bitsandbytes"):
        assert f'"{name}=={both[name]}"' in extras
    assert both["nvidia-cuda-runtime"].split(".")[0] == "13", "docs/gpu.md and the doctor name its oldest driver"
    assert "--constraint constraints-gpu.txt" in (ROOT / "environment.yml").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("ENVTUNE_REQUIRE_INDEX"), reason="for CI, which sets ENVTUNE_REQUIRE_INDEX")
@pytest.mark.skipif(not HERE, reason="vLLM is built for Linux, and the versions are pinned for Python 3.11")
def test_the_gpu_extras_resolve(tmp_path):
    report = tmp_path / "report.json"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--quiet",
        "--ignore-installed",
        "--report",
        str(report),
    ]
    done = subprocess.run(
        [*pip, "--constraint", "constraints-gpu.txt", ".[gpu,zero,workbook,interop]"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = {
        normal(item["metadata"]["name"]): item["metadata"]["version"].split("+")[0]
        for item in json.loads(report.read_text())["install"]
    }
    assert {"vllm", "bitsandbytes", "deepspeed", "tensorboard", "torch", "transformers", "trl"} <= found.keys()
    pinned = pins("constraints.txt") | pins("constraints-gpu.txt")
    del found["envtune"]
    assert {name: pinned.get(name, "not pinned").split("+")[0] for name in found} == found
