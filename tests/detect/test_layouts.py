"""Training and test images that belong together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from barlowctl.detect.layouts import check_layout, open_detection
from barlowctl.errors import UserError
from tests.detect.conftest import Shapes


def test_both_splits_have_the_same_classes(shapes: Shapes) -> None:
    for layout, path in (("voc", shapes.voc), ("coco", shapes.coco)):
        training, test = open_detection(layout, path)  # type: ignore[arg-type]
        assert (len(training), len(test)) == (24, 16)
        assert training.classes == test.classes == ("ellipse", "rectangle", "triangle")
        assert test.objects == sum(len(scene.shapes) for scene in shapes.scenes["test"])
        assert training.notices == test.notices == []


def test_other_categories_are_refused(shapes: Shapes, tmp_path: Path) -> None:
    shutil.copytree(shapes.coco, tmp_path / "coco")
    file = tmp_path / "coco" / "annotations" / "instances_val2017.json"
    document = json.loads(file.read_text())
    document["categories"][0]["name"] = "oblong"
    file.write_text(json.dumps(document))
    with pytest.raises(UserError, match="1 differ, the first is 7: oblong and rectangle"):
        open_detection("coco", tmp_path / "coco")


@pytest.mark.parametrize("layout", ["voc", "coco"])
def test_test_images_that_are_trained_on_are_counted(shapes: Shapes, tmp_path: Path, layout: str) -> None:
    folder = tmp_path / "set"
    if layout == "voc":
        shutil.copytree(shapes.voc / "VOC2007", folder)
        lists = folder / "ImageSets" / "Main"
        (lists / "trainval.txt").write_text((lists / "trainval.txt").read_text() + "test_00003\n")
    else:
        shutil.copytree(shapes.coco / "val2017", folder / "images")
        document = json.loads((shapes.coco / "annotations" / "instances_val2017.json").read_text())
        (folder / "val.json").write_text(json.dumps(document))
        id = document["images"][3]["id"]
        document["annotations"] = [entry for entry in document["annotations"] if entry["image_id"] == id]
        (folder / "train.json").write_text(json.dumps({**document, "images": document["images"][3:4]}))
    _, test = open_detection(layout, folder)  # type: ignore[arg-type]
    assert test.notices == [f"{folder}: 1 of the 16 test images are trained on: test_00003.jpg"]


def test_a_folder_has_the_layout_that_it_is_asked_for_or_another(shapes: Shapes, tmp_path: Path) -> None:
    assert [check_layout("voc", shapes.voc), check_layout("coco", shapes.voc)] == ["voc", "voc"]
    assert [check_layout("voc", shapes.coco), check_layout("coco", shapes.coco)] == ["coco", "coco"]
    assert check_layout("voc", tmp_path) == "voc"  # neither: its reader says what it looks for
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.xml").write_text("")
    assert check_layout("coco", tmp_path) == "voc"
    (tmp_path / "train.json").write_text("")
    assert [check_layout("voc", tmp_path), check_layout("coco", tmp_path)] == ["voc", "coco"]  # both


@pytest.mark.parametrize("labels", ["labels/train", "train/labels", "labels"])
def test_labels_of_yolo_are_refused_by_name(tmp_path: Path, labels: str) -> None:
    (tmp_path / labels).mkdir(parents=True)
    (tmp_path / labels / "a.txt").write_text("0 0.5 0.5 0.2 0.2")
    with pytest.raises(UserError, match=rf"in YOLO's layout \({labels}/a\.txt\), which is not read"):
        check_layout("coco", tmp_path)
