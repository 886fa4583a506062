"""VOC's average precision: by hand, with every quirk, and against one detection after another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from barlowctl.detect.layouts import open_detection
from barlowctl.detect.voc_metric import IOU_PERCENT, RECALLS, average_precision, curve, evaluate, match
from barlowctl.detect.voc_metric import _rounded as rounded
from tests.detect.conftest import Shapes
from tests.detect.predicted import Annotated, detected, objects, oracle
from tests.oracles import voc_detection as oracles

FAR = (200, 200, 220, 220)
A, B = (0, 0, 10, 10), (50, 50, 70, 60)


def ap(truths: list[Any], detections: list[Any], limit: float = 0.5, **options: Any) -> float:
    """Of one class in one image. truths: boxes, or (box, difficult). detections: (box, score)."""
    pairs = [truth if isinstance(truth[0], tuple) else (truth, False) for truth in truths]
    annotation = objects([box for box, _ in pairs], [0] * len(pairs), [difficult for _, difficult in pairs])
    prediction = detected([box for box, _ in detections], [score for _, score in detections], [0] * len(detections))
    matches = match([annotation], [rounded(prediction)], 0)
    return average_precision(*curve(matches, limit), **{"eleven_points": True, **options})


def test_by_hand() -> None:
    """Two objects; a hit, a false one, a hit: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1."""
    detections = [(A, 0.9), (FAR, 0.8), (B, 0.7)]
    assert ap([A, B], detections) == pytest.approx(28 / 33, abs=1e-12)
    assert ap([A, B], detections, eleven_points=False) == pytest.approx(5 / 6, abs=1e-12)


def test_an_object_is_hit_once_and_there_is_no_second_choice() -> None:
    near_a = (1, 0, 11, 10)
    assert ap([A], [(A, 0.9), (A, 0.8)], eleven_points=False) == 1.0
    # The second overlaps A most, which is taken; B' would do as well, and is not given to it.
    other = (3, 0, 13, 10)
    assert ap([A, other], [(A, 0.9), (near_a, 0.8)], eleven_points=False) == pytest.approx(0.5)


def test_difficult_objects_count_neither_way() -> None:
    hit_first = [(B, 0.9), (A, 0.8), (FAR, 0.7)]
    assert ap([A, (B, True)], hit_first) == pytest.approx(1.0)
    assert ap([A, (B, True)], [(FAR, 0.9), *hit_first]) != pytest.approx(1.0)
    assert ap([A, (B, True)], [(B, 0.9), (B, 0.85), (A, 0.8)]) == pytest.approx(1.0)
    # A detection goes to the difficult object where that overlaps it more.
    assert ap([(0, 0, 10, 14), (A, True)], [(A, 0.9), ((0, 0, 10, 14), 0.8)]) == pytest.approx(1.0)


def test_an_overlap_must_be_larger_than_the_limit() -> None:
    # 1-based and with the last pixel, 10 x 10 in 10 x 20: a half. Without that pixel it would be 0.475.
    assert ap([(0, 0, 10, 20)], [(A, 0.9)]) == 0.0
    assert ap([(0, 0, 10, 20)], [(A, 0.9)], limit=0.4999) == pytest.approx(1.0)
    assert ap([(0, 0, 10, 19)], [(A, 0.9)]) == pytest.approx(1.0)


def test_scores_have_three_decimals_and_corners_one() -> None:
    # 0.9004 and 0.9001 are equal when rounded, and the first in order comes first.
    assert ap([A], [(FAR, 0.9001), (A, 0.9004)]) == pytest.approx(0.5)
    assert ap([A], [(FAR, 0.9001), (A, 0.9016)]) == pytest.approx(1.0)
    # Of 10 x 20 pixels 10 x 10.04 are covered, which is 10.0 when rounded, and 10.06 is 10.1.
    assert ap([(0, 0, 10, 20)], [((0, 0, 10, 10.04), 0.9)]) == 0.0
    assert ap([(0, 0, 10, 20)], [((0, 0, 10, 10.06), 0.9)]) == pytest.approx(1.0)


def test_a_recall_of_three_tenths_misses_its_point() -> None:
    """As sums of tenths in floating point, 0.3, 0.6 and 0.7 are above themselves."""
    assert [number / 10 for number, recall in enumerate(RECALLS) if recall > number / 10] == [0.3, 0.6, 0.7]
    boxes = [(30 * number, 0, 30 * number + 10, 10) for number in range(10)]
    for hits, points in ((2, 3), (3, 3), (5, 6), (6, 6), (7, 7), (8, 9)):
        assert ap(boxes, [(box, 0.9) for box in boxes[:hits]]) == pytest.approx(points / 11, abs=1e-12)


def random_case(seed: int) -> tuple[list[Any], list[Any]]:
    generator = np.random.default_rng(seed)
    annotations, predictions = [], []
    for index in range(int(generator.integers(1, 6))):
        count = int(generator.integers(0, 5))
        corners = generator.integers(0, 40, (count, 2))
        boxes = np.concatenate([corners, corners + generator.integers(4, 30, (count, 2))], axis=1)
        annotations.append(
            objects(
                boxes.tolist(),
                generator.integers(0, 3, count).tolist(),
                (generator.random(count) < 0.2).tolist(),
                index,
            )
        )
        near = boxes[generator.integers(0, count, 6)] + generator.normal(0, 2, (6, 4)) if count else np.empty((0, 4))
        corners = generator.uniform(0, 40, (3, 2))
        far = np.concatenate([corners, corners + generator.uniform(4, 30, (3, 2))], axis=1)
        every = np.concatenate([near, far])
        digits = int(generator.choice([1, 2, 5]))
        predictions.append(
            detected(
                every,
                generator.random(len(every)).round(digits).tolist(),
                generator.integers(0, 3, len(every)).tolist(),
            )
        )
    return annotations, predictions


@pytest.mark.parametrize("eleven_points", [True, False])
def test_random_cases_agree_with_one_detection_after_another(eleven_points: bool) -> None:
    compared = 0
    for seed in range(40):
        annotations, predictions = random_case(seed)
        images = Annotated(annotations, ("a", "b", "c"))
        scores = evaluate(images, predictions, eleven_points=eleven_points)  # type: ignore[arg-type]
        expected = []
        for label, name in enumerate(images.classes):
            truths = [
                oracles.Truth(index, (box[0] + 1, box[1] + 1, box[2], box[3]), bool(difficult))
                for index, annotation in enumerate(annotations)
                for box, of, difficult in zip(
                    annotation.boxes.tolist(), annotation.labels, annotation.difficult, strict=True
                )
                if of == label
            ]
            detections = [
                oracles.Detection(index, tuple(box), score)
                for index, prediction in enumerate(predictions)
                for box, score, of in zip(
                    prediction.boxes.tolist(), prediction.scores.tolist(), prediction.labels.tolist(), strict=True
                )
                if of == label
            ]
            if all(truth.difficult for truth in truths):
                assert np.isnan(scores.per_class[name]["AP"])
                continue
            row = [
                100 * oracles.average_precision(truths, detections, percent / 100, eleven_points=eleven_points)
                for percent in IOU_PERCENT
            ]
            expected.append(row)
            assert scores.per_class[name]["AP50"] == pytest.approx(row[0], abs=1e-9)
            compared += 0 < row[0] < 100
        if not expected:
            assert np.isnan(list(scores.box.values())).all()
            continue
        means = np.mean(expected, axis=0)
        assert scores.box == pytest.approx({"AP": means.mean(), "AP50": means[0], "AP75": means[5]}, abs=1e-9)
    assert compared > 50


def test_a_perfect_detector_has_100_and_one_at_an_overlap_of_six_tenths_has_ap50_alone(shapes: Shapes) -> None:
    _, images = open_detection("voc", shapes.voc)
    perfect = evaluate(images, oracle(images))
    assert perfect.box == pytest.approx({"AP": 100, "AP50": 100, "AP75": 100})
    assert perfect.mask is None
    assert set(perfect.per_class) == {"ellipse", "rectangle", "triangle"}
    shifted = evaluate(images, oracle(images, shift=0.25))
    assert shifted.box["AP50"] == pytest.approx(100)
    assert shifted.box["AP75"] == 0
    assert 10 <= shifted.box["AP"] <= 30


def test_the_measure_is_the_mean_of_eleven_points_over_ten_overlaps() -> None:
    """The test is that of 2007, and its scores are means over IoU .50:.05:.95."""
    images = Annotated([objects([A, B], [0, 0])], ("a",))
    scores = evaluate(images, [detected([A, FAR, B], [0.9, 0.8, 0.7], [0, 0, 0])])  # type: ignore[arg-type]
    assert scores.box == pytest.approx(dict.fromkeys(("AP", "AP50", "AP75"), 100 * 28 / 33))
    # 1-based and with the last pixel, 100 x 93 in 100 x 100: above nine of the ten limits.
    images = Annotated([objects([(0, 0, 100, 100)], [0])], ("a",))
    scores = evaluate(images, [detected([(0, 0, 100, 93)], [0.9], [0])])  # type: ignore[arg-type]
    assert scores.box == pytest.approx({"AP": 90, "AP50": 100, "AP75": 100})
    scores = evaluate(images, [detected([(0, 0, 100, 75)], [0.9], [0])])  # type: ignore[arg-type]
    assert scores.box == pytest.approx({"AP": 50, "AP50": 100, "AP75": 0})  # at 0.75 it is not above


def test_without_detections_it_is_0_and_without_objects_not_defined() -> None:
    images = Annotated([objects([A], [0]), objects([(B)], [1], [True])], ("a", "b", "c"))
    nothing = [detected([], [], []), detected([], [], [])]
    scores = evaluate(images, nothing)  # type: ignore[arg-type]
    assert scores.box == {"AP": 0, "AP50": 0, "AP75": 0}
    assert scores.per_class["a"]["AP"] == 0
    assert np.isnan([scores.per_class[name]["AP"] for name in ("b", "c")]).all()  # difficult alone; none
    assert np.isnan(evaluate(Annotated([objects([], [])], ("a",)), nothing[:1]).box["AP"])  # type: ignore[arg-type]
