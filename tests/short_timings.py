"""What is timed before a run, to choose a precision or to say how long it will take, is a thirtieth here."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def short_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that are timed have few images: a dry run's, a study's, and those of both precisions."""
    from barlowctl.assemble import plan, precision
    from barlowctl.study import estimate

    pixels = {"cpu": 32 * 32**2, "cuda": 256 * 224**2}
    for module, name in ((plan, "TIMED_PIXELS"), (estimate, "QUICK"), (estimate, "FULL")):
        monkeypatch.setattr(module, name, pixels)
    monkeypatch.setattr(precision, "OPERATIONS", precision.OPERATIONS / 30)
