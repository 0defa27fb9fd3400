"""Names that papermill sets and nothing reads are refused in the first cell."""

from __future__ import annotations

import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from envtune.workbook.injected import injected_names


def test_the_last_cell_of_papermill_counts():
    cells = ["", 'run = "x"', "# Parameters\nlimt = 3", "# Parameters\nn = 3\nrate = [1]\nprint(x)\n", "other = 1"]
    assert list(injected_names(cells)) == ["n", "rate"]
    assert list(injected_names(cells[:2])) == []


@pytest.mark.slow
def test_papermill_stops_at_a_misspelt_name(project):
    with pytest.raises(PapermillExecutionError, match="unknown key 'rat': did you mean 'rate'") as caught:
        papermill.execute_notebook(
            project.root / "notebooks/01_alpha.ipynb",
            project.root / "out.ipynb",
            {"rat": 0.5},
            kernel_name="python3",
            language="python",
            cwd=project.root / "notebooks",
            progress_bar=False,
        )
    assert "workbook.begin(" in caught.value.source
    assert not project.run_dir.exists()
