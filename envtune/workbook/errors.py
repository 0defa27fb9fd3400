"""The two errors that a user of a run can fix."""

from __future__ import annotations


class ParamsError(ValueError):
    """Parameters that cannot be used. The message has one line per problem."""


class SeriesError(RuntimeError):
    """A series that could not start or go on. The message is one line.

    Attributes:
        detail: what else helps to find the cause, such as the end of a traceback. It may be empty.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail
