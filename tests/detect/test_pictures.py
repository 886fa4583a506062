"""Pictures of annotated objects and detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.detect.layouts import open_detection
from barlowctl.detect.pictures import (
    Mark,
    annotated_marks,
    beside_one_another,
    detected_caption,
    detected_marks,
    draw_marks,
    save_pictures,
)
from barlowctl.plots.style import BLUE, CLASSES, INK, PAPER, SKY, VERMILION
from tests.detect.conftest import Shapes
from tests.detect.predicted import detected, oracle


def test_a_box_a_mask_and_a_name_are_where_they_belong() -> None:
    pixels = np.full((400, 500, 3), 100, dtype=np.uint8)
    mask = np.zeros((400, 500), dtype=bool)
    mask[200:300, 150:250] = True
    drawn = np.asarray(draw_marks(pixels, [Mark((100, 150, 300, 350), 1, "cup 0.90", mask)], {1: VERMILION}))
    color = np.array(VERMILION)
    assert drawn.shape == pixels.shape
    for x, y in ((100, 250), (299, 250), (200, 349), (250, 150)):
        assert drawn[y, x].tolist() == color.tolist()
    np.testing.assert_allclose(drawn[250, 200], 0.55 * 100 + 0.45 * color, atol=1)
    assert drawn[320, 200].tolist() == drawn[250, 320].tolist() == drawn[360, 200].tolist() == [100] * 3
    assert drawn[200, 200].tolist() == drawn[250, 249].tolist() == list(VERMILION)  # the mask's edge
    assert drawn[250, 99].tolist() == drawn[250, 300].tolist() == list(PAPER)  # a hairline around the box
    assert (drawn[136:149, 100:160].reshape(-1, 3) == 255).all(axis=1).any()  # letters
    light = np.asarray(draw_marks(pixels, [Mark((100, 150, 300, 350), 1, "cup 0.90")], {1: SKY}))
    assert (light[136:149, 100:160].reshape(-1, 3) == INK).all(axis=1).any()  # ink on a light colour


def test_names_do_not_lie_on_one_another_and_classes_have_colours_of_their_own() -> None:
    """Of two boxes at one place one name is above the left corner, the other above the right one."""
    pixels = np.full((400, 500, 3), 100, dtype=np.uint8)
    box = (100.0, 150.0, 300.0, 350.0)
    picture = beside_one_another(pixels, [("a", [Mark(box, 3, "bird"), Mark(box, 13, "boat")]), ("b", [])], 20)
    drawn = np.asarray(picture)[22:, 8:508]
    assert drawn[139, 101].tolist() == list(
        CLASSES[0]
    )  # the last mark's: it has the first choice, 3 the colour of both
    assert drawn[139, 298].tolist() == list(CLASSES[3])


def test_a_mark_at_an_edge_or_of_no_size_is_drawn_within_the_image() -> None:
    pixels = np.full((300, 400, 3), 100, dtype=np.uint8)
    for box in ((-50, -50, 500, 500), (399.5, 299.5, 399.9, 299.9), (0, 0, 0, 0), (10, 290, 60, 330)):
        drawn = np.asarray(draw_marks(pixels, [Mark(box, 0, "a long name " * 9)], {0: BLUE}))
        assert (drawn == BLUE).all(axis=2).sum() > 30


def test_small_images_are_enlarged_and_boxes_with_them() -> None:
    drawn = np.asarray(draw_marks(np.zeros((60, 80, 3), np.uint8), [Mark((20, 30, 40, 50), 0, "a")], {0: BLUE}))
    assert drawn.shape == (240, 320, 3)
    assert drawn[160, 80].tolist() == drawn[199, 159].tolist() == list(BLUE)


def test_the_best_detection_is_drawn_last_and_weak_ones_are_not() -> None:
    detections = detected([(0, 0, 5, 5), (1, 1, 6, 6), (2, 2, 7, 7)], [0.9, 0.49, 0.7], [0, 1, 1])
    marks = detected_marks(detections, ("a", "b"))
    assert [mark.text for mark in marks] == ["b 0.70", "a 0.90"]
    assert [mark.text for mark in detected_marks(detections, ("a", "b"), 0.0)] == ["b 0.49", "b 0.70", "a 0.90"]


def test_a_picture_without_detections_says_how_near_the_best_one_came() -> None:
    detections = detected([(0, 0, 5, 5), (1, 1, 6, 6)], [0.3141, 0.25], [0, 1])
    assert detected_caption(detections) == "none detected, best score 0.31 of 0.5"
    assert detected_caption(detections, 0.3) == "detected, score from 0.3 on"
    assert detected_caption(detected([], [], [])) == "none detected"


@pytest.mark.parametrize("layout", ["voc", "coco"])
def test_pictures_are_written_with_crowds_and_difficult_objects(shapes: Shapes, tmp_path: Path, layout: str) -> None:
    pytest.importorskip("pycocotools")
    _, images = open_detection(layout, shapes.voc if layout == "voc" else shapes.coco)  # type: ignore[arg-type]
    marks = annotated_marks(images.annotation(5), images.classes, images.size(5))
    assert marks[0].text == ("ellipse, difficult" if layout == "voc" else "ellipse, crowd")
    assert all((mark.mask is not None) == (layout == "coco") for mark in marks)
    files = save_pictures(tmp_path / "pictures", images, oracle(images), [5, 9])
    assert [path.name for path in files] == ["5-test_00005.jpg", "9-test_00009.jpg"]
    height, width = images.size(5)
    scale = -(-320 // max(height, width))
    with Image.open(files[0]) as picture:
        assert picture.size == (2 * (width * scale + 8) + 8, height * scale + 30)
