"""When an accuracy would say nothing, and when it does."""

from __future__ import annotations

import pytest
import torch

from barlowctl.eval import meaning


@pytest.mark.parametrize(
    ("bank", "queries", "says"),
    [
        ([0, 0, 0], [0, 0], "of one class"),
        ([0, 1], [2, 3], "none of the classes"),
        ([0, 1], [], "no labelled images"),
        ([0, 1], [1, 2], None),
        ([3, 5], [5], None),
    ],
)
def test_labels(bank: list[int], queries: list[int], says: str | None) -> None:
    why = meaning.of_labels(torch.tensor(bank), torch.tensor(queries))
    assert why is None if says is None else says in (why or "")


@pytest.mark.parametrize(("bank", "can"), [([0, 1, 2], False), ([0, 1, 1], True), ([4], False)])
def test_a_class_of_two_images_has_one_to_hold_out(bank: list[int], can: bool) -> None:
    assert (meaning.of_held_out(torch.tensor(bank)) is None) is can


def test_features() -> None:
    features = torch.randn(1, 8).expand(20, 8).clone()
    assert "the same" in (meaning.of_features(features) or "")
    features += 1e-7 * torch.randn(20, 8)  # rounding
    assert "the same" in (meaning.of_features(features) or "")
    features += 1e-3 * torch.randn(20, 8)
    assert meaning.of_features(features) is None
    features[3, 3] = float("nan")
    assert "NaN" in (meaning.of_features(features) or "")
    assert "the same" in (meaning.of_features(torch.zeros(20, 8)) or "")
