"""Annotations with anything changed in them are read, or refused as a person's mistake: never a traceback."""

from __future__ import annotations

import copy
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from barlowctl.detect.coco import open_coco
from barlowctl.detect.loader import DetectionLoader
from barlowctl.detect.voc import open_voc
from barlowctl.errors import UserError
from tests.detect.conftest import Shapes

VALUES: list[Any] = [
    None, 0, -1, 1.5, "x", "", [], {}, True, float("inf"), float("nan"), [1], [[1, 2, 3]], [["a"]], {"size": [1, 2]},
    {"counts": "x", "size": [10, 10]}, 10**30, "../../nowhere", "\x00", "a/b",
]  # fmt: skip
PIECES = (b"-", b"9999999999", b"1e400", b"nan", b"<object>", b"&x;", b"\xff", b"<difficult>2</difficult>")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a JSON document; of long lists the first entries."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value[:3]):
            yield from places(inner, (*path, number))


def changed_json(document: Any, generator: np.random.Generator) -> Any:
    """One or two values removed, or another in their place."""
    changed = copy.deepcopy(document)
    every = [path for path in places(document) if path]
    for _ in range(int(generator.integers(1, 3))):
        *path, last = every[int(generator.integers(len(every)))]
        target = changed
        try:
            for key in path:
                target = target[key]
            if generator.random() < 0.3:
                del target[last]
            else:
                target[last] = VALUES[int(generator.integers(len(VALUES)))]
        except (KeyError, IndexError, TypeError):  # the first change took it away
            continue
    return changed


def changed_bytes(content: bytes, generator: np.random.Generator) -> bytes:
    """A few bytes changed, removed or put in."""
    changed = bytearray(content)
    for _ in range(int(generator.integers(1, 5))):
        at, kind = int(generator.integers(len(changed))), int(generator.integers(3))
        if kind == 0:
            changed[at] = int(generator.integers(256))
        elif kind == 1:
            del changed[at : at + int(generator.integers(1, 30))]
        else:
            changed[at:at] = PIECES[int(generator.integers(len(PIECES)))]
    return bytes(changed)


def outcomes(seeds: range, write: Callable[[np.random.Generator], Any], read: Callable[[], Any]) -> Counter[str]:
    """How often it was read and refused; any other error is the test's."""
    counts = Counter[str]()
    for seed in seeds:
        write(np.random.default_rng(seed))
        try:
            read()
            counts["read"] += 1
        except UserError as error:
            counts["refused" if len(error.message) < 1000 else "refused at length"] += 1
    return counts


@pytest.mark.parametrize("seeds", [range(60), pytest.param(range(60, 1000), marks=pytest.mark.slow)])
def test_a_changed_file_of_coco(shapes: Shapes, tmp_path: Path, seeds: range) -> None:
    pytest.importorskip("pycocotools")
    folder = tmp_path / "coco"
    shutil.copytree(shapes.coco, folder)
    file = folder / "annotations" / "instances_val2017.json"
    document = json.loads(file.read_text())

    def read() -> None:
        images = open_coco(folder, "test")
        images.ground_truth()
        if len(images.trainable):
            next(
                DetectionLoader(
                    images, batch_size=2, seed=0, interval=1, short_sides=(40,), longest=80, flip=0.5
                ).epoch(0)
            )

    counts = outcomes(seeds, lambda generator: file.write_text(json.dumps(changed_json(document, generator))), read)
    assert min(counts["read"], counts["refused"]) > len(seeds) // 8
    assert not counts["refused at length"]


@pytest.mark.parametrize("seeds", [range(60), pytest.param(range(60, 1000), marks=pytest.mark.slow)])
def test_a_changed_file_of_voc(shapes: Shapes, tmp_path: Path, seeds: range) -> None:
    folder = tmp_path / "voc"
    shutil.copytree(shapes.voc, folder)
    file = folder / "VOC2007" / "Annotations" / "test_00001.xml"
    content = file.read_bytes()
    counts = outcomes(
        seeds,
        lambda generator: file.write_bytes(changed_bytes(content, generator)),
        lambda: open_voc(folder, "test").annotation(1),
    )
    assert counts["refused"] > len(seeds) // 8
    assert not counts["refused at length"]
