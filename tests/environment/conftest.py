"""The catalogue of failures, played once per worker."""

from __future__ import annotations

import pytest

from envtune.studies.failures import CATALOGUE, Failure, Played, play


@pytest.fixture(scope="session")
def catalogue() -> list[tuple[Failure, Played]]:
    return [(failure, play(failure)) for failure in CATALOGUE]
