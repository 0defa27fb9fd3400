"""How Jupyter shows the records: HTML tables, everything escaped, no script, in light and dark themes.

A record's class names the function that makes its `View` (`shown`). In IPython its plain text is one line. Lists and
tuples of such records become a table with a line each. Tables read well without a style sheet, for example on GitHub.
"""

from envtune.display.lists import register
from envtune.display.messages import episode_html, episode_view, task_html
from envtune.display.view import View, count, folded, grid, row, shown, strong, style

__all__ = [
    "View",
    "count",
    "episode_html",
    "episode_view",
    "folded",
    "grid",
    "row",
    "shown",
    "strong",
    "style",
    "task_html",
]

register()
