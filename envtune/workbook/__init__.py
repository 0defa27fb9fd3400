"""The workbook: notebooks with typed parameters, run in order, each leaving a manifest and a report.

In a notebook, `begin` is all there is to know:

    nb = workbook.begin("02_environment", run=run, results=results, seed=seed)
    nb.figure(fig, "name", alt="what it shows")
    nb.finish(headline="It solved 5 of 10 tasks.", detail="How it was measured.", task_accuracy=0.5)

`params` says what a notebook may be told, `series` runs them all, `report` renders them, `provenance` says where a
result comes from.
"""

from typing import TYPE_CHECKING, Any

from envtune.extras import require

if TYPE_CHECKING:
    from envtune.workbook.findings import Finding
    from envtune.workbook.notebook import Workbook, begin

__all__ = ["Finding", "Workbook", "begin"]


def __getattr__(name: str) -> Any:
    """`begin` brings what only notebooks need, so it is imported when first asked for."""
    if name in __all__:
        require("workbook")
        from envtune.workbook import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module 'envtune.workbook' has no attribute {name!r}")
