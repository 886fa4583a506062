"""COCO's layout: what is read, and what is refused or counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from barlowctl.detect.coco import open_coco
from barlowctl.detect.regions import decoded, is_region, lengths_of, region_of_outline
from barlowctl.errors import UserError
from tests.detect.conftest import Shapes


def test_labels_are_positions_among_the_sorted_numbers(shapes: Shapes) -> None:
    images = open_coco(shapes.coco, "train")
    assert images.category_ids == (3, 7, 12)
    assert images.classes == ("ellipse", "rectangle", "triangle")
    assert images.notices == []
    for index, scene in enumerate(shapes.scenes["train"]):
        annotation = images.annotation(index)
        assert annotation.image_id == scene.id == 100 + 7 * index
        assert images.size(index) == scene.pixels.shape[:2] == images.image(index).shape[:2]
        assert [images.category_ids[label] for label in annotation.labels] == [shape.category for shape in scene.shapes]


def test_boxes_outlines_and_areas_are_those_that_were_drawn(shapes: Shapes) -> None:
    images = open_coco(shapes.coco, "train")
    assert images.name(1) == "train_00001.jpg"
    parts = 0
    for index, scene in enumerate(shapes.scenes["train"]):
        annotation = images.annotation(index)
        assert annotation.boxes.dtype == np.float32
        np.testing.assert_allclose(
            annotation.boxes, [shape.box for shape in scene.shapes] or np.empty((0, 4)), atol=0.011
        )
        np.testing.assert_array_equal(annotation.areas, [shape.area for shape in scene.shapes])
        assert annotation.polygons is not None
        for outline, rle, shape in zip(annotation.polygons, annotation.rles, scene.shapes, strict=True):
            parts = max(parts, len(outline))
            assert (rle is not None) == shape.crowd == (not outline)
            for part, corners in zip(outline, shape.parts, strict=False):
                np.testing.assert_allclose(part, corners, atol=0.006)
    assert parts == 2


def test_areas_in_closed_form_are_those_of_the_pixels(shapes: Shapes) -> None:
    pytest.importorskip("pycocotools")
    images = open_coco(shapes.coco, "train")
    crowds = 0
    for index in range(8):
        annotation, (height, width) = images.annotation(index), images.size(index)
        assert annotation.polygons is not None
        for outline, rle, area in zip(annotation.polygons, annotation.rles, annotation.areas, strict=True):
            region = rle if rle is not None else region_of_outline(outline, height, width)
            crowds += rle is not None
            assert decoded(region).sum() == pytest.approx(area, rel=0.07)
    assert crowds == 1


def test_crowds_and_empty_images_are_not_trained_on(shapes: Shapes) -> None:
    images = open_coco(shapes.coco, "train")
    with_objects = [
        index for index, scene in enumerate(shapes.scenes["train"]) if any(not shape.crowd for shape in scene.shapes)
    ]
    assert images.trainable.tolist() == with_objects
    assert 9 not in with_objects
    assert images.annotation(5).crowd.tolist() == [True] + [False] * (len(shapes.scenes["train"][5].shapes) - 1)


def test_an_image_of_a_crowd_alone_is_not_trained_on(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        image(tmp_path / "train" / name)
    whole = document()
    whole["annotations"][1]["iscrowd"] = 1
    (tmp_path / "train.json").write_text(json.dumps(whole))
    images = open_coco(tmp_path, "train")
    assert [images.name(index) for index in images.trainable] == ["b.png"]
    assert images.objects == 2


def test_the_ground_truth_is_that_of_the_file_with_ids_from_one(shapes: Shapes) -> None:
    document = json.loads((shapes.coco / "annotations" / "instances_val2017.json").read_text())
    truth = open_coco(shapes.coco, "test").ground_truth()
    assert [entry["id"] for entry in truth["annotations"]] == list(range(1, len(document["annotations"]) + 1))
    without_id = [{key: value for key, value in entry.items() if key != "id"} for entry in truth["annotations"]]
    assert without_id == [{key: entry[key] for key in without_id[0]} for entry in document["annotations"]]
    assert [entry["id"] for entry in truth["images"]] == [entry["id"] for entry in document["images"]]
    assert truth["categories"] == sorted(document["categories"], key=lambda entry: int(entry["id"]))


# One's own


def image(path: Path, width: int = 40, height: int = 30) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (9, 99, 199)).save(path)


def document(**changes: Any) -> dict[str, Any]:
    """Two images with one object each; of the second a part is nothing."""
    box = {"bbox": [4, 5, 10, 20], "iscrowd": 0}
    whole = {
        "images": [
            {"id": 8, "file_name": "a.png", "height": 30, "width": 40},
            {"id": 5, "file_name": "b.png", "height": 30, "width": 40},
        ],
        "annotations": [
            {"id": 0, "image_id": 5, "category_id": 2, **box},
            {"id": 1, "image_id": 8, "category_id": 4, "area": 7, **box},
        ],
        "categories": [{"id": 4, "name": "cup"}, {"id": 2, "name": "pot"}],
    }
    return {**whole, **changes}


def write(folder: Path, content: Any, name: str = "train.json") -> Path:
    for file in ("a.png", "b.png"):
        image(folder / "images" / file)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_train.json", "images/train"),
        ("annotations/train.json", "train"),
        ("train/_annotations.coco.json", "train"),
        ("train/annotations.json", "images"),
        ("train.json", ""),
    ],
)
def test_a_folder_of_ones_own_is_laid_out_in_one_of_these_ways(tmp_path: Path, file: str, place: str) -> None:
    write(tmp_path, document(), file)
    for name in ("a.png", "b.png"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        shutil.move(tmp_path / "images" / name, tmp_path / place / name)
    images = open_coco(tmp_path, "train")
    assert (images.classes, images.category_ids) == (("pot", "cup"), (2, 4))
    assert images.image(1).shape == (30, 40, 3)
    assert images.annotation(0).labels.tolist() == [1]
    assert images.annotation(1).polygons is None
    assert images.annotation(1).boxes.tolist() == [[4, 5, 14, 25]]
    assert [images.annotation(index).areas.tolist() for index in range(2)] == [[7], [200]]  # its own, of its box


def test_categories_of_one_name_are_told_apart_by_their_numbers(tmp_path: Path) -> None:
    categories = [{"id": 4, "name": "cup"}, {"id": 2, "name": "cup"}, {"id": 9}]
    assert open_coco(write(tmp_path, document(categories=categories)), "train").classes == ("cup (2)", "cup (4)", "9")


def test_the_test_images_are_those_of_val_where_there_is_no_test(tmp_path: Path) -> None:
    write(tmp_path, document(), "val.json")
    assert len(open_coco(tmp_path, "test")) == 2
    write(tmp_path, document(images=document()["images"][:1], annotations=[]), "test.json")
    assert len(open_coco(tmp_path, "test")) == 1


def test_a_size_that_the_file_does_not_say_is_the_images(tmp_path: Path) -> None:
    images = [{key: value for key, value in entry.items() if key != "height"} for entry in document()["images"]]
    assert open_coco(write(tmp_path, document(images=images)), "train").size(0) == (30, 40)


def test_an_object_that_is_a_region_is_trained_on_as_its_pixels(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    mask = np.zeros((30, 40), dtype=bool)
    mask[3:9, 10:20], mask[5:7, 12:15], mask[20:21, 39:40] = True, False, True
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]]))
    entry = {
        "id": 3, "image_id": 5, "category_id": 2, "bbox": [10, 3, 30, 18], "iscrowd": 0,
        "segmentation": {"size": [30, 40], "counts": counts.tolist()},
    }  # fmt: skip
    annotation = open_coco(write(tmp_path, document(annotations=[entry])), "train").annotation(1)
    assert annotation.polygons is not None
    assert annotation.areas.tolist() == [mask.sum()]
    painted = np.zeros((30, 40), dtype=int)
    for part in annotation.polygons[0]:
        (left, top), (right, bottom) = part.min(axis=0).astype(int), part.max(axis=0).astype(int)
        painted[top:bottom, left:right] += 1
    np.testing.assert_array_equal(painted, mask.astype(int))
    np.testing.assert_array_equal(decoded(region_of_outline(annotation.polygons[0], 30, 40)), mask)


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_are_read_from_text_as_pycocotools_writes_them(seed: int) -> None:
    mask_functions = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(seed)
    mask = generator.random((30, 400)) < (0.5, 0.02, 0.98, 0.0)[seed]
    mask[:, 100:300] = seed % 2
    lengths = mask_functions.encode(np.asfortranarray(mask.astype(np.uint8)))
    flat = np.concatenate([[False], mask.ravel(order="F")])
    expected = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat)), [mask.size]])).tolist()
    assert lengths_of(lengths["counts"].decode()) == expected
    assert is_region({"size": [30, 400], "counts": lengths["counts"].decode()}, 30, 400)
    assert not is_region({"size": [30, 400], "counts": lengths["counts"].decode()[:-1]}, 30, 400)
    assert not is_region({"size": [30, 400], "counts": [*expected, 1]}, 30, 400)


# Hostile annotations


def annotation(**changes: Any) -> dict[str, Any]:
    return {"id": 9, "image_id": 5, "category_id": 2, "bbox": [4, 5, 10, 20], **changes}


SQUARE = [[4, 5, 14, 5, 14, 25, 4, 25]]


@pytest.mark.parametrize(
    ("entries", "labels", "notice"),
    [
        ([annotation(bbox=[4, 5, 0, 20])], [], "1 object without width, height or area, left out: annotation 9"),
        ([annotation(bbox=[4, 5, 10, -2])], [], "1 object without width, height or area, left out: annotation 9"),
        ([annotation(bbox=[0, 0, 0, 0])], [], "1 object without width, height or area, left out: annotation 9"),
        ([annotation(bbox=[40, 5, 10, 20])], [], "1 object outside their image, left out: annotation 9"),
        ([annotation(bbox=[4, -9, 10, 9])], [], "1 object outside their image, left out: annotation 9"),
        (
            [annotation(bbox=[34, 5, 10, 20])],
            [0],
            "1 object reaching beyond their image, cut off at its edge when trained on: annotation 9",
        ),
        ([annotation(bbox=[30.5, 5, 10, 20])], [0], None),
        (
            [annotation(id=id, bbox=[1, 1, 0, 0]) for id in range(5)],
            [],
            "5 objects without width, height or area, left out: annotation 0, annotation 1, annotation 2 and 2 more",
        ),
        (
            [annotation(segmentation=SQUARE), annotation(id=10), annotation(id=11, segmentation=[[1, 2, 3, 4]])],
            [0],
            "2 objects without an outline, where others have one, left out: annotation 10, annotation 11",
        ),
    ],
)
def test_objects_that_cannot_be_used_are_counted_by_name(
    tmp_path: Path, entries: list[dict[str, Any]], labels: list[int], notice: str | None
) -> None:
    images = open_coco(write(tmp_path, document(annotations=entries)), "train")
    assert images.annotation(1).labels.tolist() == labels
    assert images.notices == ([f"{tmp_path / 'train.json'}: {notice}"] if notice else [])
    assert len(images.ground_truth()["annotations"]) == len(labels)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ([], "has no list of images"),
        ({"images": []}, "has no list of annotations"),
        ({"images": [], "categories": []}, "has no list of annotations (a file of images alone"),
        (document(images=[]), "lists no images"),
        (document(categories=[], annotations=[]), "lists no categories"),
        (document(images=[3]), "an entry of its lists is no object"),
        (document(images=[{"id": "8", "file_name": "a.png"}]), "has the id '8'"),
        (document(images=[{"id": 8}]), "image 8 has the file_name None"),
        (document(images=document()["images"] * 2), "2 image ids are there more than once: 8, 5"),
        (document(categories=document()["categories"] * 2), "2 category ids are there more than once: 4, 2"),
        (document(annotations=[annotation(), annotation()]), "1 annotation id is there more than once: 9"),
        (
            document(annotations=[annotation(category_id=77), annotation(id=10)]),
            "1 of its 2 annotations have a category_id that is not among its 2 categories: annotation 9 "
            "(category_id 77)",
        ),
        (document(annotations=[annotation(category_id=None)]), "annotation 9 (category_id None)"),
        (
            document(annotations=[annotation(image_id=1)]),
            "1 of its 1 annotations have a image_id that is not among its 2 images: annotation 9 (image_id 1)",
        ),
        (document(annotations=[annotation(bbox=[1, 2, 3])]), "annotation 9 has the bbox [1, 2, 3]"),
        (document(annotations=[annotation(bbox=None)]), "annotation 9 has the bbox null"),
        (document(annotations=[annotation(bbox=[1, 2, 3, float("nan")])]), "annotation 9 has the bbox [1, 2, 3, NaN]"),
        (document(annotations=[annotation(segmentation=[1, 2])]), "annotation 9 has the segmentation [1, 2]"),
        *(
            (document(annotations=[annotation(segmentation=segmentation)]), "annotation 9 has the segmentation")
            for segmentation in (
                {"size": [40, 30], "counts": [1200]},
                {"size": [30, 40], "counts": [1201]},
                {"size": [30, 40], "counts": [2000, -800]},
                {"size": [30, 40], "counts": "o\u00e9"},
                {"size": [30, 40], "counts": 1200},
                {"size": [30, 40]},
            )
        ),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        open_coco(write(tmp_path, content), "train")
    assert message in caught.value.message
    assert str(tmp_path / "train.json") in caught.value.message


def test_missing_images_are_counted_by_name(tmp_path: Path) -> None:
    write(tmp_path, document())
    (tmp_path / "images" / "b.png").unlink()
    with pytest.raises(UserError, match=r"1 of its 2 images is not in .*/images: b\.png"):
        open_coco(tmp_path, "train")


def test_another_layout_is_refused_with_what_is_looked_for(shapes: Shapes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no annotations of its training images in COCO's layout") as caught:
        open_coco(shapes.voc, "train")
    assert "annotations/instances_NAME.json" in str(caught.value.allowed)
    assert str(caught.value.next).splitlines()[0] == "name the folder that has them with --data"
    with pytest.raises(UserError, match="is no folder"):
        open_coco(tmp_path / "nowhere", "train")


def test_an_image_of_another_size_is_refused_when_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, document())
    image(tmp_path / "images" / "a.png", width=30, height=40)
    images = open_coco(tmp_path, "train")
    assert images.image(1).shape == (30, 40, 3)
    with pytest.raises(
        UserError, match=r"a\.png cannot be read: it is 30 x 40 pixels, and its annotation says 40 x 30"
    ):
        images.image(0)
    (tmp_path / "images" / "b.png").write_bytes(b"GIF89a")
    with pytest.raises(UserError, match=r"b\.png cannot be read"):
        images.image(1)
