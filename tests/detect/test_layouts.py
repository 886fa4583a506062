"""Training and test images that belong together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from barlowctl.detect.layouts import open_detection
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
