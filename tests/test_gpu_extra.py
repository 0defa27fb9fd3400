"""The extra `gpu` resolves with the versions of constraints.txt; nothing is installed. It takes minutes of network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HERE = sys.platform == "linux" and sys.version_info[:2] == (3, 11)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("ENVTUNE_REQUIRE_INDEX"), reason="for CI, which sets ENVTUNE_REQUIRE_INDEX")
@pytest.mark.skipif(not HERE, reason="vLLM is built for Linux, and the versions are pinned for Python 3.11")
def test_the_gpu_extra_resolves(tmp_path):
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
        [*pip, "--constraint", "constraints.txt", ".[gpu]"], cwd=ROOT, capture_output=True, text=True, timeout=540
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = {
        item["metadata"]["name"].lower().replace("_", "-"): item["metadata"]["version"].split("+")[0]
        for item in json.loads(report.read_text())["install"]
    }
    wanted = {
        "vllm": "0.31.0",
        "bitsandbytes": "0.50.2",
        "torch": "2.13.0",
        "transformers": "5.17.0",
        "trl": "1.16.0",
    }
    assert {name: found.get(name) for name in wanted} == wanted
