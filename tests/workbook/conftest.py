"""Fixtures: a small project, and a browser that says what is wrong with a page."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pages import find_browser, open_browser, problems
from playwright.sync_api import Browser
from stub_project import ALPHA_WORK, HERE, ROOT, Project

from envtune import sources
from envtune.workbook import provenance


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(ROOT)]))
    monkeypatch.setattr(provenance, "source_hash", lambda: "as it is")  # sources may be edited while tests run
    monkeypatch.setattr(sources, "running", lambda *_: "")
    project = Project(tmp_path)
    project.alpha(ALPHA_WORK)
    project.set(n=3)
    return project


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The installed browser; skips without one, unless ENVTUNE_REQUIRE_BROWSER says it must be."""
    executable = find_browser()
    if executable is None:
        reason = "no Chromium found; `apt-get install chromium` provides one"
        if os.environ.get("ENVTUNE_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with open_browser(executable) as opened:
        yield opened


@pytest.fixture(scope="session")
def page_problems(browser: Browser) -> Callable[..., list[str]]:
    """`problems(page)` in the installed browser."""
    return lambda page, width=1280: problems(browser, page, width)
