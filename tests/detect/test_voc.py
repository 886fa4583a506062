"""VOC's layout: what is read, and what is refused or counted."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.datasets import VOC07
from barlowctl.detect.coco import open_coco
from barlowctl.detect.voc import open_voc
from barlowctl.errors import UserError
from tests.detect.conftest import Shapes


def test_training_is_on_both_years_and_the_test_on_2007(shapes: Shapes) -> None:
    for path in (shapes.voc, shapes.voc.parent):  # with and without VOCdevkit
        training, test = open_voc(path, "train"), open_voc(path, "test")
        numbers = [*range(0, 24, 2), *range(1, 24, 2)]
        assert [training.name(index) for index in range(24)] == [f"train_{number:05d}.jpg" for number in numbers]
        assert [test.name(index) for index in range(16)] == [f"test_{number:05d}.jpg" for number in range(16)]
        assert test.annotation(3).image_id == 3


def test_left_and_top_are_one_less_and_difficult_objects_stay(shapes: Shapes) -> None:
    images = open_voc(shapes.voc, "test")
    difficult = 0
    for index, scene in enumerate(shapes.scenes["test"]):
        annotation = images.annotation(index)
        expected = [[math.floor(b[0]), math.floor(b[1]), math.ceil(b[2]), math.ceil(b[3])] for b in
                    (shape.box for shape in scene.shapes)]  # fmt: skip
        if index == 0:
            np.testing.assert_allclose(annotation.boxes[0, 0], scene.shapes[0].box[0], atol=1e-5)  # with its fraction
            expected[0][0] = annotation.boxes[0, 0]
        np.testing.assert_array_equal(annotation.boxes, np.array(expected, dtype=np.float32).reshape(-1, 4))
        assert annotation.difficult.tolist() == [shape.crowd for shape in scene.shapes]
        np.testing.assert_allclose(annotation.areas, [(b[2] - b[0]) * (b[3] - b[1]) for b in expected], rtol=1e-5)
        assert images.size(index) == scene.pixels.shape[:2]
        difficult += int(annotation.difficult.sum())
    assert difficult == 1
    assert images.annotation(0).polygons is None


def test_both_layouts_have_the_same_objects(shapes: Shapes) -> None:
    voc, coco = open_voc(shapes.voc, "test"), open_coco(shapes.coco, "test")
    assert voc.classes == coco.classes
    for index in range(len(voc)):
        assert voc.annotation(index).labels.tolist() == coco.annotation(index).labels.tolist()
        np.testing.assert_array_equal(voc.image(index), coco.image(index))
        difference = np.abs(voc.annotation(index).boxes - coco.annotation(index).boxes)
        assert difference.max(initial=0) < 1.01


def test_difficult_objects_are_trained_on(shapes: Shapes) -> None:
    images = open_voc(shapes.voc, "train")
    with_objects = [index for index in range(24) if len(images.annotation(index))]
    assert images.trainable.tolist() == with_objects
    assert len(with_objects) == sum(bool(scene.shapes) for scene in shapes.scenes["train"])


def test_the_ground_truth_for_cocos_metric(shapes: Shapes) -> None:
    images = open_voc(shapes.voc, "test")
    truth = images.ground_truth()
    assert [entry["id"] for entry in truth["categories"]] == [1, 2, 3]
    assert [entry["id"] for entry in truth["annotations"]] == list(range(1, len(truth["annotations"]) + 1))
    first = images.annotation(2)
    entries = [entry for entry in truth["annotations"] if entry["image_id"] == 2]
    assert [entry["category_id"] - 1 for entry in entries] == first.labels.tolist()
    left, top, right, bottom = first.boxes[0].tolist()
    assert entries[0]["bbox"] == [left, top, right - left, bottom - top]
    assert entries[0]["area"] == first.areas[0]


# One's own


def an_object(name: str = "cat", box: str = "<xmin>3</xmin><ymin>4</ymin><xmax>12</xmax><ymax>9</ymax>") -> str:
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    return f"<object><name>{name}</name>{part}<bndbox>{box}</bndbox></object>"


CORNERS = ("xmin", "ymin", "xmax", "ymax")


def box(*corners: object) -> str:
    return "".join(f"<{name}>{value}</{name}>" for name, value in zip(CORNERS, corners, strict=True))


SIZE = "<size><width>20</width><height>10</height></size>"


def mine(folder: Path, *objects: str, size: str = SIZE, text: str | None = None, lists: str = "train") -> Path:
    """One image `a b.png` of 20 x 10 pixels."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    Image.new("L", (20, 10), 77).save(folder / "JPEGImages" / "a b.png")
    document = f"<annotation>{size}{''.join(objects)}</annotation>" if text is None else text
    (folder / "Annotations" / "a b.xml").write_text(document)
    (folder / "ImageSets" / "Main" / f"{lists}.txt").write_text("a b\n")
    return folder


def test_a_folder_of_ones_own_has_any_classes_and_kinds_of_images(tmp_path: Path) -> None:
    images = open_voc(mine(tmp_path, an_object("zebra"), an_object("ant")), "train")
    assert images.classes == ("ant", "zebra")
    annotation = images.annotation(0)
    assert annotation.labels.tolist() == [1, 0]
    assert annotation.boxes.tolist() == [[2, 3, 12, 9]] * 2  # and not that of a part of the object
    assert images.image(0).shape == (10, 20, 3)
    assert images.image(0).max() == 77
    assert images.name(0) == "a b.png"


def test_vocs_names_are_vocs_twenty_classes(tmp_path: Path) -> None:
    images = open_voc(mine(tmp_path, an_object("cat")), "train")
    assert images.classes == VOC07.class_names
    assert images.annotation(0).labels.tolist() == [7]


def test_which_lists_are_the_splits(tmp_path: Path) -> None:
    mine(tmp_path, an_object(), lists="val")
    assert len(open_voc(tmp_path, "test")) == 1
    with pytest.raises(UserError, match=r"has no ImageSets/Main/train\.txt"):
        open_voc(tmp_path, "train")
    mine(tmp_path, an_object(), lists="trainval")
    mine(tmp_path, an_object(), lists="test")
    assert len(open_voc(tmp_path, "train")) == 1  # trainval, since the test images are others


def test_annotations_may_lie_beside_their_images(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        mine(tmp_path, an_object("ant"))
        (tmp_path / split).mkdir()
        shutil.move(tmp_path / "JPEGImages" / "a b.png", tmp_path / split)
        shutil.move(tmp_path / "Annotations" / "a b.xml", tmp_path / split)
        (tmp_path / split / "readme.txt").touch()
    shutil.rmtree(tmp_path / "Annotations")
    for split in ("train", "test"):
        images = open_voc(tmp_path, split)
        assert (images.classes, images.name(0), images.image(0).shape) == (("ant",), "a b.png", (10, 20, 3))
    (tmp_path / "train" / "a b.png").unlink()
    with pytest.raises(UserError, match=r"1 of its 1 image is not in .*train: a b\.jpg"):
        open_voc(tmp_path, "train")


def test_a_class_that_training_does_not_know_is_refused(tmp_path: Path) -> None:
    mine(tmp_path, an_object("ant"), an_object("bee"), lists="val")
    with pytest.raises(UserError, match=r"classes that training does not know: 'bee' \(a b\.xml\)") as caught:
        open_voc(tmp_path, "test", classes=("ant",))
    assert caught.value.allowed == "ant"


def test_a_size_that_the_file_does_not_say_is_the_images(tmp_path: Path) -> None:
    zero = "<size><width>0</width><height>0</height></size>"
    for size in ("", zero):
        assert open_voc(mine(tmp_path, an_object(), size=size), "train").size(0) == (10, 20)


@pytest.mark.parametrize(
    ("corners", "count", "notice"),
    [
        ((5, 5, 4, 9), 0, "1 object without width, height or area, left out: 'cat' of a b.xml"),
        ((5, 5, 5, 9), 1, None),  # one pixel wide
        ((25, 5, 30, 9), 0, "1 object outside their image, left out: 'cat' of a b.xml"),
        (
            (15, 5, 30, 9),
            1,
            "1 object reaching beyond their image, cut off at its edge when trained on: 'cat' of a b.xml",
        ),
        ((15, 5, 21, 9), 1, None),
    ],
)
def test_boxes_that_cannot_be_used_are_counted_by_name(
    tmp_path: Path, corners: tuple[int, ...], count: int, notice: str | None
) -> None:
    images = open_voc(mine(tmp_path, an_object(box=box(*corners))), "train")
    assert len(images.annotation(0)) == count
    assert images.notices == ([f"{tmp_path}: {notice}"] if notice else [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", "is no XML"),
        ("", "is no XML"),
        ("<html></html>", "is no annotation of Pascal VOC: it holds <html>"),
        (f"<annotation>{SIZE}<object></object></annotation>", "an object has no name"),
        (f"<annotation>{SIZE}{an_object(box='<xmin>1</xmin>')}</annotation>", "'cat' has the box xmin '1', ymin None"),
        (f"<annotation>{SIZE}{an_object(box=box('1', 'x', 3, 4))}</annotation>", "ymin 'x'"),
        (f"<annotation>{SIZE}{an_object(box=box(1, 'inf', 3, 4))}</annotation>", "ymin 'inf'"),
    ],
)
def test_a_broken_annotation_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        open_voc(mine(tmp_path, text=text), "train")
    assert message in caught.value.message
    assert str(tmp_path / "Annotations" / "a b.xml") in caught.value.message


def test_missing_files_and_lists_are_counted_by_name(tmp_path: Path) -> None:
    names = tmp_path / "ImageSets" / "Main" / "train.txt"
    mine(tmp_path, an_object())
    names.write_text("")
    with pytest.raises(UserError, match="names no image"):
        open_voc(tmp_path, "train")
    names.write_text("a b\nc\na b\n")
    with pytest.raises(UserError, match="names 1 image twice: a b"):
        open_voc(tmp_path, "train")
    names.write_text("a b\nc\n")
    with pytest.raises(UserError, match=r"1 of its 2 images is not in .*JPEGImages: c\.jpg"):
        open_voc(tmp_path, "train")
    shutil.copyfile(tmp_path / "JPEGImages" / "a b.png", tmp_path / "JPEGImages" / "c.png")
    with pytest.raises(UserError, match=r"1 of its 2 images have no annotation in .*Annotations: c\.xml"):
        open_voc(tmp_path, "train")


def test_another_layout_and_a_devkit_with_a_part_missing(shapes: Shapes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not in VOC's layout"):
        open_voc(shapes.coco, "train")
    with pytest.raises(UserError, match="is no folder"):
        open_voc(tmp_path / "nowhere", "train")
    shutil.copytree(shapes.voc / "VOC2007", tmp_path / "VOCdevkit" / "VOC2007")
    assert len(open_voc(tmp_path, "test")) == 16
    with pytest.raises(UserError, match=r"has no VOC2012/ImageSets/Main/trainval\.txt") as caught:
        open_voc(tmp_path, "train")
    assert caught.value.next == f"unpack VOCtrainval_11-May-2012.tar into {tmp_path}"
    assert len(open_voc(tmp_path / "VOCdevkit" / "VOC2007", "train")) == 12
