"""What papermill put into the notebook: the cell `# Parameters` that it adds below the cell tagged `parameters`.

`papermill -p limt 3` sets a name that nothing reads, warns, and ends with exit code 0. So `begin` reads the cells that
have run and refuses such a name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from envtune.workbook.frontend import shell

MARK = "# Parameters"
"""First line of the cell that papermill adds."""


def injected_names(cells: Sequence[str] | None = None) -> Iterator[str]:
    """The names that papermill set, in order.

    Args:
        cells: sources of the cells that have run. Default: those of the running kernel.
    """
    running = shell()
    sources = cells if cells is not None else running.user_ns.get("In", []) if running else []
    last = next((source for source in reversed(sources) if source.startswith(f"{MARK}\n")), "")
    for statement in ast.parse(last).body:
        if isinstance(statement, ast.Assign):
            yield from (target.id for target in statement.targets if isinstance(target, ast.Name))
