"""A generated set of annotated images, in both layouts."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.detection_shapes import Scene, write_shapes


class Shapes(NamedTuple):
    """coco and voc: the folders to open. scenes: what was drawn, split by split."""

    coco: Path
    voc: Path
    scenes: dict[str, list[Scene]]


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Shapes:
    folder = tmp_path_factory.mktemp("shapes")
    scenes = write_shapes(folder, train=24, test=16, seed=3)
    return Shapes(folder / "coco", folder / "VOCdevkit", scenes)
