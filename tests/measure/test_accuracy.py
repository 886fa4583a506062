"""Accuracies as results have them."""

from __future__ import annotations

import pytest
import torch

from barlowctl.measure.accuracy import at_chance
from barlowctl.recipe.protocol import PROTOCOLS


@pytest.mark.parametrize("name", ["semi-10", "semi-10-modern", "linear"])
def test_a_classifier_that_is_no_better_than_one_class_says_so_and_what_helps(name: str) -> None:
    protocol, labels = PROTOCOLS[name], torch.tensor([0, 0, 0, 1, 2])
    assert at_chance(60.01, labels, protocol) == []
    (note,) = at_chance(60.0, labels, protocol)
    assert note.startswith("60.00 is no better than naming the most frequent class for every image, 60.00")
    assert note.endswith("or --finetune-protocol modern") == (name == "semi-10")
