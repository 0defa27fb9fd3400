"""Whether someone looks at the notebook, and what an interrupt shows there.

JupyterLab and its like allow a cell to ask a question. Papermill and nbclient do not. So a kernel knows which of them
runs its cell.
"""

from __future__ import annotations

import sys
from typing import Any

GO_ON = "Stopped. Training and evaluations go on where they stopped: run this cell again."


def shell() -> Any:
    """The running IPython, or None."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def interactive() -> bool:
    """Whether the running cell was started by someone who can answer, and so sees widgets and changing output."""
    return bool(getattr(getattr(shell(), "kernel", None), "_allow_stdin", False))


def calm_interrupts() -> None:
    """After an interrupt, show one line instead of a traceback: the interrupt's own words, or `GO_ON`.

    The cell still counts as failed, so no later cell runs. Without someone who looks, the traceback stays.
    """
    if interactive():
        shell().set_custom_exc((KeyboardInterrupt,), _say)


def _say(running: Any, kind: type, error: BaseException, trace: Any, tb_offset: Any = None) -> None:
    if interactive():
        print(error or GO_ON)
    else:
        running.showtraceback((kind, error, trace), tb_offset=tb_offset)
