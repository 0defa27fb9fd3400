"""Run one notebook through papermill, stricter than papermill does.

In: a notebook, parameters, an environment. Out: the executed notebook, or a `SeriesError` that names the cell. The
kernel is the running interpreter, whatever kernel is registered under the name `python3`. It ignores the user's
start-up files. Papermill takes `sys.exit(0)` for success and records a killed kernel as one. Here both are failures.
"""

from __future__ import annotations

import logging
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillException, PapermillExecutionError
from tqdm import tqdm

from envtune.workbook.errors import SeriesError

START_TIMEOUT = 180  # seconds: a laptop under load takes long to import IPython
TRACEBACK_LINES = 20
KERNEL_LOG = ".kernel.log"
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONHASHSEED": "0",
    "PYTHONSTARTUP": "",
}
"""Environment variables of every kernel of the series, on top of those it inherits."""


def execute(
    notebook: Path, output: Path, parameters: Mapping[str, Any], *, environment: Mapping[str, str], cwd: Path
) -> NotebookNode:
    """Run a notebook from top to bottom, showing progress by cell. `output` always holds what has run so far.

    Args:
        notebook: the source. It is not changed.
        output: path of the executed copy.
        parameters: values that override the cell tagged `parameters`.
        environment: variables for the kernel, on top of `ENVIRONMENT`.
        cwd: the kernel's working directory.

    Raises:
        SeriesError: a cell failed, the kernel died, or a cell never ran.
    """
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # its errors are also raised
    log = output.with_name(KERNEL_LOG)
    with tempfile.TemporaryDirectory(prefix="envtune-") as profile, _Progress(notebook.stem) as progress:
        environment = {**ENVIRONMENT, "IPYTHONDIR": profile, **environment}
        try:
            executed = papermill.execute_notebook(
                _verbatim(notebook),
                _verbatim(output),
                dict(parameters),
                kernel_name="python3",
                language="python",
                kernel_manager_class=kernel_manager(environment, log),
                start_timeout=START_TIMEOUT,
                progress_bar=progress.cells,
                stderr_file=progress,
                coalesce_streams=True,
                cwd=str(cwd),
            )
        except KeyboardInterrupt:  # tasks that wait for the kernel would report that it is gone
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            raise
        except PapermillExecutionError as error:
            raise _cell_failed(notebook, output, error) from error
        except (DeadKernelError, CellTimeoutError, PapermillException, RuntimeError) as error:
            raise _kernel_failed(notebook, output, error) from error
    _require_all_cells(notebook, executed)
    return executed


def kernel_manager(environment: Mapping[str, str], log: Path) -> type[AsyncKernelManager]:
    """A kernel manager that starts this interpreter, never one from a kernelspec of the user.

    The process's own output, such as the trace of a crash in compiled code, goes to `log`.
    """
    found = get_kernel_dict()
    found["argv"] = [sys.executable, *found["argv"][1:], "--IPKernelApp.log_level=ERROR"]
    spec = KernelSpec(resource_dir="", **found | {"env": dict(environment)})

    class ThisInterpreter(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            with log.open("wb") as file:
                await super().start_kernel(stdout=file, stderr=file, **options)

    return ThisInterpreter


class _Progress:
    """A bar of cells, and below it the running cell's last line on standard error, mostly its own bar."""

    def __init__(self, name: str) -> None:
        self.cells = {"desc": name, "leave": False, "disable": None, "dynamic_ncols": True, "position": 0}
        self._line = tqdm(bar_format="  {desc}", leave=False, disable=None, dynamic_ncols=True, position=1)

    def write(self, text: str) -> None:
        lines = [line for line in re.split(r"[\r\n]+", ANSI.sub("", text)) if line.strip()]
        if lines and not self._line.disable:
            self._line.set_description_str(lines[-1][:200])

    def flush(self) -> None:
        """Nothing to do: each line is shown at once."""

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()


def _verbatim(path: Path) -> str:
    """The path, escaped for papermill, which fills in `{...}` as parameters."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _cell_failed(notebook: Path, output: Path, error: PapermillExecutionError) -> SeriesError:
    tail = ANSI.sub("", "\n".join(error.traceback)).splitlines()[-TRACEBACK_LINES:]
    tail.append(f"The notebook as far as it ran: {output}")
    where = _where(notebook, error.source)
    value = " ".join(ANSI.sub("", str(error.evalue)).split())
    return SeriesError(f"{where} (In [{error.exec_count}]) failed: {error.ename}: {value}", "\n".join(tail))


def _kernel_failed(notebook: Path, output: Path, error: Exception) -> SeriesError:
    """The kernel is gone. Papermill marks all cells as completed, so the last cell that started was the running one."""
    reason = "the kernel died (killed, or out of memory)" if isinstance(error, DeadKernelError) else f"{error}"
    started = []
    if output.exists():
        cells = nbformat.read(output, as_version=4).cells
        started = [cell for cell in cells if cell.metadata.get("papermill", {}).get("start_time")]
    where = _where(notebook, started[-1].source) if started else f"{notebook.name}, before its first cell,"
    log = output.with_name(KERNEL_LOG)
    said = log.read_text(errors="replace").splitlines() if log.exists() else []
    return SeriesError(f"{where} failed: {' '.join(reason.split())}", "\n".join(said[-TRACEBACK_LINES:]))


def _require_all_cells(notebook: Path, executed: NotebookNode) -> None:
    """Raise if a cell did not run: papermill takes `sys.exit(0)` for the notebook's regular end."""
    for cell in executed.cells:
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        stopped = [output.ename for output in cell.outputs if output.output_type == "error"]
        if stopped or cell.execution_count is None:
            reason = f"{stopped[0]} ended the notebook" if stopped else "was never run"
            raise SeriesError(f"{_where(notebook, cell.source)}: {reason}. A notebook must run to its last cell")


def _where(notebook: Path, source: str) -> str:
    """The number of the cell with that source in the source notebook, which has no injected cell."""
    cells = nbformat.read(notebook, as_version=4).cells
    numbers = [number for number, cell in enumerate(cells, 1) if cell.source == source]
    return f"{notebook.name}, cell {numbers[0]}" if numbers else f"{notebook.name}, the injected parameters"
