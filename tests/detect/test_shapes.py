"""The generated set has what real annotations have, in both layouts."""

from __future__ import annotations

import json
from itertools import combinations
from xml.etree import ElementTree

import numpy as np

from barlowctl.detect.coco import open_coco
from benchmarks.detection_shapes import CLASSES, overlap, scene
from tests.detect.conftest import Shapes


def test_scenes_are_as_promised(shapes: Shapes) -> None:
    scenes = [*shapes.scenes["train"], *shapes.scenes["test"]]
    sizes = np.array([of.pixels.shape[:2] for of in scenes])
    assert 120 <= sizes.min() < 140
    assert 240 < sizes.max() <= 260
    wide = sizes[:, 1] > sizes[:, 0]
    assert 0.2 < wide.mean() < 0.8
    counts = [len(of.shapes) for of in scenes if not any(shape.crowd for shape in of.shapes)]
    assert {0, 1, 2, 3, 4} >= set(counts) >= {0, 1, 4}
    assert {shape.category for of in scenes for shape in of.shapes} == set(CLASSES)
    pairs = [(one.box, other.box) for of in scenes for one, other in combinations(of.shapes, 2)]
    assert 0 < max(overlap(*pair) for pair in pairs) < 0.3
    for of in scenes:
        height, width = of.pixels.shape[:2]
        assert all(min(s.box) >= 0 and s.box[2] <= width and s.box[3] <= height for s in of.shapes)


def test_a_scene_is_of_its_seed() -> None:
    first, again, other = (scene("train", 3, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert [shape.box for shape in first.shapes] == [shape.box for shape in again.shapes]
    assert [shape.box for shape in first.shapes] != [shape.box for shape in other.shapes]
    assert scene("test", 3, 1).pixels.shape != first.pixels.shape or (scene("test", 3, 1).pixels != first.pixels).any()


def test_cocos_file_has_gaps_a_crowd_an_empty_image_and_an_object_in_parts(shapes: Shapes) -> None:
    document = json.loads((shapes.coco / "annotations" / "instances_train2017.json").read_text())
    numbers = [entry["id"] for entry in document["categories"]]
    assert numbers != sorted(numbers)
    assert max(numbers) > len(numbers)
    assert open_coco(shapes.coco, "train").category_ids == tuple(sorted(numbers))
    ids = [entry["id"] for entry in document["images"]]
    assert np.diff(ids).min() > 1
    assert set(ids) - {entry["image_id"] for entry in document["annotations"]}
    crowds = [entry for entry in document["annotations"] if entry["iscrowd"]]
    assert crowds
    assert all(isinstance(entry["segmentation"]["counts"], list) for entry in crowds)
    outlines = [entry["segmentation"] for entry in document["annotations"] if not entry["iscrowd"]]
    assert max(map(len, outlines)) == 2


def test_vocs_files_have_a_difficult_object_a_fraction_and_boxes_from_one_on(shapes: Shapes) -> None:
    files = sorted(shapes.voc.glob("VOC*/Annotations/train_*.xml"))
    assert len(files) == len(shapes.scenes["train"])
    difficult, fractions = 0, 0
    for file, of in zip(sorted(files, key=lambda file: file.name), shapes.scenes["train"], strict=True):
        for element, shape in zip(ElementTree.parse(file).iter("object"), of.shapes, strict=True):
            difficult += element.findtext("difficult") == "1"
            corners = [float(element.findtext(f"bndbox/{name}") or "") for name in ("xmin", "ymin", "xmax", "ymax")]
            fractions += any(corner % 1 for corner in corners)
            left, top, right, bottom = shape.box
            assert left < corners[0] <= left + 1.001
            assert top < corners[1] <= top + 1
            assert right <= corners[2] < right + 1
            assert bottom <= corners[3] < bottom + 1
    assert (difficult, fractions) == (sum(s.crowd for of in shapes.scenes["train"] for s in of.shapes), 2)
    assert difficult > 0
