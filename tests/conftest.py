"""Shared fixtures: the benchmark's tasks, read once per worker; one thread for torch, here and in what tests start."""

from __future__ import annotations

import os
import tempfile

import pytest

import envtune
from envtune.types import Task

TRACKED = tempfile.TemporaryDirectory(prefix="trackio-")  # gone when the worker ends
os.environ["TRACKIO_DIR"] = TRACKED.name  # read when trackio is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers fill the cores; threads of torch would wait for each other


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("ENVTUNE_ALL_TESTS") != "1":
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="long: for CI, which sets ENVTUNE_ALL_TESTS=1"))


@pytest.fixture(scope="session")
def tasks() -> list[Task]:
    return envtune.load_tasks("bfcl")


@pytest.fixture(scope="session")
def by_id(tasks: list[Task]) -> dict[str, Task]:
    return {task.id: task for task in tasks}
