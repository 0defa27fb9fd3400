"""Tests of real vLLM on a CPU. `make test-vllm` installs it and runs them. Without it they are skipped."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

ON_CPU = Path(__file__).parent / "on_cpu"


def pytest_collection_modifyitems(items):
    if find_spec("vllm") is None:
        for item in items:
            if ON_CPU.parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="vLLM is not installed: `make test-vllm`"))


@pytest.fixture
def vllm_on_cpu(monkeypatch):
    """Processes that a test starts find vLLM usable for training."""
    paths = [str(ON_CPU), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")  # GB
