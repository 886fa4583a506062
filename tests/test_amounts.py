"""Numbers as people read them."""

from __future__ import annotations

import pytest

from barlowctl.amounts import counted, of_labels, rate


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 epochs"),
        (1, "1 epoch"),
        (1.0, "1 epoch"),
        (0.5, "0.5 epochs"),
        (2, "2 epochs"),
        (12_000, "12,000 epochs"),
    ],
)
def test_only_one_is_singular(number: float, text: str) -> None:
    """What is not a whole number is many."""
    assert counted(number, "epoch") == text


def test_a_plural_that_is_not_the_noun_and_an_s() -> None:
    """`classes`."""
    assert [counted(number, "class", "classes") for number in (1, 2)] == ["1 class", "2 classes"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.3149, "0.31"),
        (0.0012, "0.0012"),
        (8.26, "8.3"),
        (9.96, "10"),
        (127.4, "127"),
        (12_345.6, "12,346"),
    ],
)
def test_a_rate_has_two_significant_digits(value: float, text: str) -> None:
    """A run of less than one image a second has a rate that is not 0."""
    assert rate(value) == text


def test_a_list_is_no_share_of_the_labels() -> None:
    drawn, listed = {"images": 12811}, {"images": 1200, "list": r"my\1.txt"}
    assert of_labels("fine-tuned, 1 % labels, modern protocol", drawn) == "fine-tuned, 1 % labels, modern protocol"
    assert of_labels("10 % labels (modern)", listed) == r"1,200 labels of my\1.txt (modern)"
