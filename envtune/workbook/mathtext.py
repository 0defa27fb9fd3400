"""Formulas without a script: `$...$` in Markdown becomes an image that matplotlib typesets.

JupyterLab shows the same source through MathJax. A report has no script and no font for that.
"""

from __future__ import annotations

import base64
import io
import re
from functools import cache
from html import escape

CODE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
FORMULA = re.compile(r"(?<![\\$])(\${1,2})(?=[^\s$])([^$]*?[^\s$\\])\1(?![\d$])", re.DOTALL)
SIZE = 14.5  # points, because mathtext's letters are smaller than those of the surrounding text
DPI = 300


def typeset(markdown: str) -> str:
    """`markdown` with its formulas as images whose alternative text is their source. Code is unchanged."""
    parts, end = [], 0
    for code in CODE.finditer(markdown):
        parts += [FORMULA.sub(_image, markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, FORMULA.sub(_image, markdown[end:])])


def _image(found: re.Match[str]) -> str:
    source = " ".join(found[2].split())
    drawn = _draw(source)
    if drawn is None:  # matplotlib cannot draw it: show the source
        return f"<code>{escape(source)}</code>"
    png, width, height, depth = drawn
    kind = "wb-math-block" if found[1] == "$$" else f"wb-math d{depth}"
    size = f'width="{width}" height="{height}"'
    return f'<img class="{kind}" src="data:image/png;base64,{png}" alt="{escape(source)}" {size}>'


@cache
def _draw(source: str) -> tuple[str, int, int, int] | None:
    """PNG in base64, width and height in CSS pixels, and how many of them lie below the baseline."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import math_to_image

    buffer = io.BytesIO()
    font = FontProperties(size=SIZE, math_fontfamily="stix")
    try:
        points_below = math_to_image(f"${source}$", buffer, prop=font, dpi=DPI, format="png")
    except ValueError:  # not a formula, or one that mathtext does not know
        return None
    png = buffer.getvalue()
    width, height = (round(int.from_bytes(png[at : at + 4], "big") * 96 / DPI) for at in (16, 20))  # PNG header
    return base64.b64encode(png).decode(), width, height, round(points_below * 96 / 72)
