"""Whether someone looks at the notebook, and what progress and an interrupt show there.

JupyterLab and its like allow a cell to ask a question. Papermill and nbclient do not. So a kernel knows which of them
runs its cell.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

GO_ON = "Stopped. Training and evaluations go on where they stopped: run this cell again."


WIDGET_METHODS = {"__init__", "__iter__", "clear", "close", "colour", "display", "reset", "status_printer", "update"}


def shell() -> Any:
    """The running IPython, or None."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def interactive() -> bool:
    """Whether the running cell was started by someone who can answer, and so sees widgets and changing output."""
    return bool(getattr(getattr(shell(), "kernel", None), "_allow_stdin", False))


def quiet() -> None:
    """Progress as plain text if papermill runs, as reports cannot show widgets. Only errors from noisy libraries."""
    from tqdm.auto import tqdm

    widgets = [] if interactive() else [kind for kind in tqdm.__mro__ if kind.__module__ == "tqdm.notebook"]
    for widget in widgets:
        for name in WIDGET_METHODS & set(vars(widget)):
            delattr(widget, name)  # the plain bar remains, also for code that has already imported the class
    for noisy in ("matplotlib", "transformers", "datasets", "fsspec"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def calm_interrupts() -> None:
    """After an interrupt, show one line instead of a traceback: the interrupt's own words, or `GO_ON`.

    The cell still counts as failed, so no later cell runs. Without someone who looks, the traceback stays.
    """
    if interactive():
        shell().set_custom_exc((KeyboardInterrupt,), _say)


def _say(running: Any, kind: type, error: BaseException, trace: Any, tb_offset: Any = None) -> None:
    if interactive():
        print(str(error) or GO_ON)
    else:
        running.showtraceback((kind, error, trace), tb_offset=tb_offset)
