"""VOC07's measure against an exact oracle, its SVMs against scikit-learn used by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC

from barlowctl.errors import UserError
from barlowctl.eval import svm
from tests.oracles import voc as oracle


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_the_oracles(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.normal(size=60).round(1 if seed % 2 else 9)  # rounded: with ties
    present = random.random(60) < (0.1, 0.5, 0.9)[seed % 3]
    present[random.integers(60)] = True
    expected = oracle.eleven_points(scores.tolist(), present.tolist())
    assert svm.eleven_point_precision(scores, present) == pytest.approx(expected, abs=1e-12)
    expected = oracle.area(scores.tolist(), present.tolist())
    assert svm.area_precision(scores, present) == pytest.approx(expected, abs=1e-12)
    # scikit-learn's is the area under the curve that is not interpolated: a lower bound.
    if not seed % 2:
        assert svm.area_precision(scores, present) >= average_precision_score(present, scores) - 1e-12


def test_average_precision_at_its_ends() -> None:
    scores, present = np.arange(10.0), np.arange(10) >= 7
    assert svm.eleven_point_precision(scores, present) == svm.area_precision(scores, present) == pytest.approx(1.0)
    assert svm.area_precision(-scores, present) == pytest.approx(3 / 10)  # the best precision is the last


def problem(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three overlapping attributes in twelve features, with some difficult ones."""
    directions = np.random.default_rng(7).normal(size=(3, 12))
    random = np.random.default_rng(seed)
    targets = (random.random((n, 3)) < 0.3).astype(np.int64)
    features = targets @ directions + 1.5 * random.normal(size=(n, 12))
    targets[random.random((n, 3)) < 0.05] = -1
    return features, targets


def test_the_svms_are_scikit_learns_by_hand() -> None:
    """Cost of each class by cross_val_score, difficult as negatives in training and left out of the test."""
    (x, y), (test_x, test_y) = problem(150, 0), problem(120, 1)
    costs = (0.001, 0.1, 10.0)
    ours = svm.voc_svm(x, y, test_x, test_y, costs=costs, threads=2)
    unit, test_unit = (features / np.linalg.norm(features, axis=1, keepdims=True) for features in (x, test_x))
    for label in range(3):
        truth = np.where(y[:, label] == 1, 1, -1)

        def machine(cost: float) -> LinearSVC:
            return LinearSVC(C=cost, class_weight={1: 2, -1: 1}, max_iter=2000, random_state=0)

        reached = [
            cross_val_score(machine(cost), unit, truth, cv=3, scoring="average_precision").mean() for cost in costs
        ]
        assert ours.costs[label] == costs[int(np.argmax(reached))]
        scores = machine(ours.costs[label]).fit(unit, truth).decision_function(test_unit)
        counted = test_y[:, label] != -1
        expected = oracle.eleven_points(scores[counted].tolist(), (test_y[counted, label] == 1).tolist())
        assert ours.eleven_point[label] == pytest.approx(expected, abs=0.01)
    assert ours.mean_eleven_point > 0.5
    assert svm.COSTS[0] == 1e-7
    assert len(svm.COSTS) == 26


def test_low_shot_uses_so_many_and_grows() -> None:
    (x, y), (test_x, test_y) = problem(400, 0), problem(300, 1)

    def mean(shots: int) -> float:
        results = [svm.low_shot(x, y, test_x, test_y, shots=shots, draw=d, costs=(0.1, 1.0)) for d in range(3)]
        return float(np.mean([result.mean_eleven_point for result in results]))

    one, many = mean(1), mean(32)
    assert one + 0.05 < many
    again = [svm.low_shot(x, y, test_x, test_y, shots=4, draw=d, costs=(1.0,)).eleven_point for d in (0, 0, 1)]
    assert again[0] == again[1] != again[2]


def test_what_it_refuses() -> None:
    (x, y), (test_x, test_y) = problem(60, 0), problem(40, 1)
    empty = y.copy()
    empty[:, 1] = 0
    with pytest.raises(UserError, match="class 1 has 0 positive training images"):
        svm.voc_svm(x, empty, test_x, test_y)
    with pytest.raises(UserError, match="NaN"):
        svm.voc_svm(x * np.nan, y, test_x, test_y)
    with pytest.raises(UserError, match="positive training images"):
        svm.low_shot(x, y, test_x, test_y, shots=50, draw=0)
