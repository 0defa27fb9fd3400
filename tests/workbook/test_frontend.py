"""Without someone who looks, nothing is softened: bars are text, and an interrupt has its traceback."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from IPython.core.interactiveshell import InteractiveShell

from envtune.workbook import frontend


@pytest.fixture
def shell():
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def test_an_interrupt_is_one_line_where_someone_looks(shell, monkeypatch, capsys):
    assert not frontend.interactive()
    frontend.calm_interrupts()
    assert KeyboardInterrupt not in shell.custom_exceptions, "no kernel, or papermill: the traceback stays"
    kernel = SimpleNamespace(_allow_stdin=True)  # as ipykernel has it while a cell of JupyterLab runs
    monkeypatch.setattr(shell, "kernel", kernel, raising=False)
    assert frontend.interactive()
    frontend.calm_interrupts()
    for cell, line in {
        "raise KeyboardInterrupt": frontend.GO_ON,
        "raise KeyboardInterrupt('Stopped at 7.')": "Stopped at 7.",
    }.items():
        assert not shell.run_cell(cell).success, "later cells do not run"
        assert capsys.readouterr().out.splitlines() == [line]
    kernel._allow_stdin = False
    assert not shell.run_cell("raise KeyboardInterrupt").success
    assert "Traceback" in capsys.readouterr().out
