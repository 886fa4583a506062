"""The data set, recipe and run of the commands' tests, for the same things done from Python."""

from __future__ import annotations

import pytest

from tests.cli.conftest import digits, few_images_for_lidar, recipe, trained
from tests.short_timings import short_timings

__all__ = ["digits", "few_images_for_lidar", "recipe", "short_timings", "trained"]


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that name no number of threads take one: features are then equal to the last bit."""
    monkeypatch.setattr("barlowctl.assemble.machine.usable_cores", lambda: 1)
