"""How IPython shows a list or a tuple of records: one line each, such as `load_tasks(...)` or `result.episodes`.

The list stays a plain list. IPython asks the function registered here, which leaves other lists alone.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from envtune.display.view import View, count, scrolled

MOST = 20
"""Records that are shown. A line says how many more there are."""


def sequence_view(records: Sequence[Any]) -> View | None:
    """One line of facts for each record. None if not all are records of one kind that has a view."""
    kinds = {type(record) for record in records}
    if len(kinds) != 1 or not hasattr(kind := kinds.pop(), "_view_"):
        return None
    facts = [count(len(records), kind.__name__.lower())]
    categories = Counter(getattr(record, "category", None) for record in records) - Counter({None: len(records)})
    facts += [f"{n} {category}" for category, n in categories.items()]
    lines = ["".join(f"<td>{fact}</td>" for fact in record._view_().facts) for record in records[:MOST]]
    body = "".join(f'<tr><th scope="row">{number}</th>{line}</tr>' for number, line in enumerate(lines))
    more = f"<p><em>… {len(records) - MOST:,} more</em></p>" if len(records) > MOST else ""
    return View(facts, f"{scrolled(f'<table><tbody>{body}</tbody></table>')}{more}")


def register() -> None:
    """Let a running IPython show such lists. Without one, nothing happens."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        for kind in (list, tuple):
            shell.display_formatter.formatters["text/html"].for_type(kind, _html)


def _html(records: Sequence[Any]) -> str | None:
    view = sequence_view(records)
    return None if view is None else view._repr_html_()
