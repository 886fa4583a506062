"""What is timed before a run, to choose a precision or to say how long it will take, are few and small steps here."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def short_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that are timed are few, and of few images: a dry run's, a study's, and those of both precisions."""
    from barlowctl.assemble import plan, precision
    from barlowctl.study import estimate

    pixels = {"cpu": 32 * 32**2, "cuda": 256 * 224**2}
    for module, name in ((plan, "TIMED_PIXELS"), (estimate, "QUICK"), (estimate, "FULL")):
        monkeypatch.setattr(module, name, pixels)
    monkeypatch.setattr(plan, "TIMED_STEPS", 2)
    monkeypatch.setattr(estimate, "ENOUGH", 0)
    monkeypatch.setattr(precision, "OPERATIONS", precision.OPERATIONS / 30)
    monkeypatch.setattr(precision, "COSTLY", 0)  # so that one round counts
    monkeypatch.setattr(precision, "CLEAR", 0)  # and is enough
