"""What the tests of damaged files need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO

import pytest


@pytest.fixture
def terminal(request: pytest.FixtureRequest) -> Iterator[IO[str]]:
    """Standard error as it was before pytest captured it: what is written while the process ends is seen."""
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        duplicate = os.dup(2)
    with os.fdopen(duplicate, "w") as file:
        yield file
