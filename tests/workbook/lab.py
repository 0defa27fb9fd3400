"""A real JupyterLab with one notebook, opened in a browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser, Page
from stub_project import HERE, ROOT

TOKEN = "t"
OPTIONS = {
    "ServerApp.port": 0,
    "ServerApp.token": TOKEN,
    "LabApp.expose_app_in_browser": True,
    "LabApp.extension_manager": "readonly",  # asks no package index
}
READY = "window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady === true"
KERNEL = "jupyterapp.shell.currentWidget.sessionContext.session.kernel"


@contextmanager
def open_lab(browser: Browser, folder: Path, cells: list[str]) -> Iterator[Page]:
    """JupyterLab with a notebook of these cells, whose kernel is ready. Both end with the block."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells], metadata={"kernelspec": kernel})
    nbformat.write(notebook, folder / "notebooks/look.ipynb")
    settings = folder / ".CONFIG/lab/user-settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')  # cells below the window are rendered, too
    own = {f"JUPYTER_{kind}_DIR": str(folder / f".{kind}") for kind in ("CONFIG", "DATA", "RUNTIME")}
    environment = {**os.environ, **own, "IPYTHONDIR": str(folder / ".ipython")}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), str(ROOT)])
    options = [f"--{name}={value}" for name, value in {**OPTIONS, "ServerApp.root_dir": folder}.items()]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *options]
    server = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        address = _address(server)
        threading.Thread(target=server.stderr.read, daemon=True).start()  # type: ignore[union-attr]  # a full pipe blocks
        page = browser.new_page(viewport={"width": 1280, "height": 3000})
        page.goto(f"{address}/lab/tree/notebooks/look.ipynb?token={TOKEN}&reset")
        page.wait_for_function(READY, timeout=60_000)
        yield page
        page.close()
    finally:
        server.terminate()  # the server ends its kernels
        server.wait(20)


def run_all(page: Page) -> None:
    """Start all cells. `finish` waits for them."""
    page.evaluate("() => { window.ran = jupyterapp.commands.execute('notebook:run-all-cells') }")


def finish(page: Page) -> list[dict[str, Any]]:
    """Wait until the cells have run or one has failed. Returns for each its number, the text of its output, and whether
    a display of this project is in it."""
    page.evaluate("window.ran")
    return page.evaluate(
        "jupyterapp.shell.currentWidget.content.widgets.map(cell => ({ran: cell.model.executionCount, "
        "text: cell.outputArea.node.innerText, shown: !!cell.outputArea.node.querySelector('[class^=et-]')}))"
    )


def set_theme(page: Page, name: str) -> None:
    """Switch to a theme of JupyterLab, such as `JupyterLab Dark`."""
    page.evaluate(f"jupyterapp.commands.execute('apputils:change-theme', {{theme: '{name}'}})")
    page.wait_for_selector(f"body[data-jp-theme-name='{name}']", state="attached")


def _address(server: subprocess.Popen[str]) -> str:
    """Where the server listens, from its log."""
    said = []
    for line in server.stderr or ():
        said.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            return found[0]
    raise AssertionError("JupyterLab did not start:\n" + "".join(said[-20:]))
