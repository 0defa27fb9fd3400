"""The workbook: notebooks with typed parameters, run in order, each leaving a manifest and a report.

In a notebook, `begin` is all there is to know:

    nb = workbook.begin("02_environment", run=run, results=results, seed=seed)
    nb.figure(fig, "name", alt="what it shows")
    nb.finish(headline="It solved 5 of 10 tasks.", detail="How it was measured.", task_accuracy=0.5)

`params` says what a notebook may be told, `series` runs them all, `report` renders them, `provenance` says where a
result comes from.
"""

from envtune.workbook.findings import Finding
from envtune.workbook.notebook import Workbook, begin

__all__ = ["Finding", "Workbook", "begin"]
