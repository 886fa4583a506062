"""A look at a source that is not packed yet, within seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.data.beton import survey as surveys
from barlowctl.data.beton.survey import survey
from barlowctl.data.sources import open_source


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """300 small grey images, every second one in another class."""
    for number in range(300):
        path = tmp_path / "many" / "ab"[number % 2] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8 + number // 100), number % 256, np.uint8)).save(path)
    return tmp_path / "many"


def test_of_many_images_256_are_looked_at(many: Path) -> None:
    met = survey(open_source(many))
    assert (met.class_sizes, met.labelled, met.looked_at) == ([150, 150], 300, 256)
    assert (met.widths, met.heights, met.colour, met.as_they_are, met.unreadable) == ((8, 10), (8, 8), False, 0, [])


def test_when_time_is_over_those_looked_at_are_spread(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(surveys.time, "monotonic", lambda: next(ticks))
    met = survey(open_source(many), seconds=20)
    assert met.looked_at == 20
    assert met.widths == (8, 10)  # of the first and of the last


def test_nothing_readable_is_no_end(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"\xff\xd8\xffnothing")
    met = survey(open_source(tmp_path))
    assert (met.looked_at, len(met.unreadable), met.widths) == (2, 2, (0, 0))
