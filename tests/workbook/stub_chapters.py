"""Two small chapters for the tests; their notebooks import this file, as the real ones import `CHAPTERS`."""

from __future__ import annotations

from envtune.workbook.params import Chapter, Common, Count, Real


class Alpha(Common):
    n: Count
    rate: Real


class Beta(Common):
    note: str


ALPHA = Chapter("01_alpha", Alpha)
BETA = Chapter("02_beta", Beta, needs=("01_alpha",), reads=("other/table.csv",))
CHAPTERS = (ALPHA, BETA)
