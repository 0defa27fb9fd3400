"""The two ways a run is refused or fails for a reason that its user can mend."""

from __future__ import annotations


class ParamsError(ValueError):
    """Parameters that cannot be used; the message has one line per problem."""


class SeriesError(RuntimeError):
    """A series that could not start or go on; the message is one line.

    Attributes:
        detail: what else helps to find the cause, such as the end of a traceback; may be empty.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail
