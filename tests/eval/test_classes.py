"""Confusion and accuracy by class, against scikit-learn."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix as sklearn_confusion

from barlowctl.errors import UserError
from barlowctl.eval.classes import class_names, confusion_matrix, per_class, write_tables
from barlowctl.plots.matrix import colors, confusion


def test_it_is_scikit_learns_matrix() -> None:
    random = np.random.default_rng(0)
    labels, predictions = random.integers(0, 4, 200), random.integers(0, 5, 200)  # class 4 has no sample
    ours = confusion_matrix(torch.tensor(predictions), torch.tensor(labels), 5)
    np.testing.assert_array_equal(ours.numpy(), sklearn_confusion(labels, predictions, labels=range(5)))
    shares = per_class(ours)
    assert shares[4] is None
    for label in range(4):
        assert shares[label] == pytest.approx((predictions[labels == label] == label).mean())


def test_the_tables_hold_the_counts(tmp_path: Path) -> None:
    matrix = torch.tensor([[3, 1], [0, 0]])
    tables = write_tables(tmp_path / "new", "linear", matrix, ["cat, big", "dog"])
    rows = [list(csv.reader(path.read_text().splitlines())) for path in tables[:2]]
    assert tables[2].name == "linear-per-class.tex"
    assert tables[2].read_text().splitlines()[-4:-2] == [r"cat, big & 4 & 75.00 \\", r"dog & 0 & -- \\"]
    assert rows[0] == [["class", "images", "right", "top1"], ["cat, big", "4", "3", "75.0000"], ["dog", "0", "0", ""]]
    assert rows[1][1:] == [["cat, big", "3", "1"], ["dog", "0", "0"]]
    assert class_names(["a"], 3) == ["a", "1", "2"]


def test_the_picture_has_a_square_for_each_pair() -> None:
    picture = confusion(np.array([[9, 1], [0, 4]]), ["a", "b"], "linear")
    pixels = np.asarray(picture).reshape(-1, 3)
    for share in (90.0, 10.0, 0.0, 100.0):
        assert (pixels == colors(np.array(share), 0, 100)).all(axis=1).sum() > 200
    many = confusion(np.eye(300), [str(i) for i in range(300)], "linear")
    assert many.width < 1100  # too many for names and numbers


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(UserError, match="predictions against"):
        confusion_matrix(torch.zeros(3), torch.zeros(4), 2)
