"""Labels as people write them: which class each image gets, and what is said where it gets none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from barlowctl.data.labels.numbering import label_in, label_name, number_labels
from barlowctl.errors import UserError


@pytest.mark.parametrize(
    ("values", "numbers", "names"),
    [
        ([2, 0, 1], [2, 0, 1], ["0", "1", "2"]),
        ([True, False, True], [1, 0, 1], ["false", "true"]),
        ([1.0, 0.0, None], [1, 0, -1], ["0", "1"]),
        ([np.float32(1), float("nan"), np.int64(2)], [1, -1, 2], ["0", "1", "2"]),
        (["3", "1.0", ""], [3, 1, -1], ["0", "1", "2", "3"]),
        (["dog", " cat", None, "dog"], [1, 0, -1, 1], ["cat", "dog"]),
        ([b"no", b"yes"], [0, 1], ["no", "yes"]),
        (["10", "9", "two"], [0, 1, 2], ["10", "9", "two"]),
        (["none", "scratch"], [0, 1], ["none", "scratch"]),
        ([[1], [0]], [1, 0], ["0", "1"]),
        ([True, 1, "b"], [1, 0, 2], ["1", "true", "b"]),
        ([-1, -1], [-1, -1], []),
        ([None, None], [-1, -1], []),
        ([], [], []),
    ],
)
def test_what_is_a_class(values: list[object], numbers: list[int], names: list[str]) -> None:
    labels = number_labels(values, "x")
    assert labels.numbers.tolist() == numbers
    assert labels.numbers.dtype == np.int64
    assert labels.class_names == names
    assert labels.notes == ()


@pytest.mark.parametrize(
    ("values", "numbers", "note"),
    [
        ([0.37, 1.0], [-1, -1], "fractions (0.37), targets of a regression"),
        (["0.5", "2"], [-1, -1], "fractions (0.5)"),
        ([math.inf, 1.0], [-1, -1], "regression"),
        ([[1, 3], [2]], [-1, -1], "several labels an image (1 of them)"),
        (["a " * 300, "b"], [-1, -1], "long texts"),
        ([0, -1, 1, -1], [0, -1, 1, -1], "-1 for 2 images: taken for no label"),
        ([-2, 0, -1], [0, 2, 1], "negative numbers"),
        ([f"{i:02}a" for i in range(10)], list(range(10)), "another one for each of 10 images"),
    ],
)
def test_what_is_said(values: list[object], numbers: list[int], note: str) -> None:
    labels = number_labels(values, "x.csv")
    assert labels.numbers.tolist() == numbers
    assert len(labels.notes) == 1
    assert note in labels.notes[0]
    assert labels.notes[0].startswith("x.csv ")


def test_the_classes_of_the_training_split_hold() -> None:
    classes = ["cat", "dog", "emu"]
    assert number_labels(["emu", "cat"], "x", training_classes=classes).numbers.tolist() == [2, 0]
    assert number_labels(["emu", "cat"], "x", training_classes=classes).class_names == classes
    with pytest.raises(UserError, match="x has the class 'yak', which the training set lacks"):
        number_labels(["emu", "yak"], "x", training_classes=classes)
    # What reads as a number alone is a word where the training set has words.
    assert number_labels(["10"], "x", training_classes=["10", "9a"]).numbers.tolist() == [0]
    assert number_labels([1], "x", training_classes=["0", "1", "2"]).class_names == ["0", "1", "2"]
    assert number_labels(["b", 0], "x", names=["a", "b", "0"]).numbers.tolist() == [1, 2]
    assert number_labels([1, 0], "x", names=["a", "b"]).class_names == ["a", "b"]


@pytest.mark.parametrize("number", [1_000_000, "9" * 30, "9" * 6000, 2**63 + 3])
def test_a_class_number_that_is_too_large(number: int | str) -> None:
    with pytest.raises(UserError, match=f"x has the class number {str(number)[:40]}"):
        number_labels([0, number], "x")
    assert len(number_labels(["0" * 30, 999_999], "x").class_names) == 1_000_000


def test_which_column_or_key() -> None:
    assert label_name(["id", "Label", "class"]) == "Label"
    assert label_name(["id", "diagnosis"]) is None
    assert label_in({"width": 3, "CLASS": "cat"}) == ("CLASS", "cat")
    assert label_in({"caption": "a cat"}) is None
    assert label_in([1]) is None
