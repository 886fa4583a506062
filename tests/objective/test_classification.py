"""Cross-entropy and the mean over the batch, against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from barlowctl.distributed import Ranks
from barlowctl.objective.batch_mean import batch_mean
from barlowctl.objective.classification import classification_loss, mixed_classification_loss


def test_the_loss_is_the_formula_and_its_gradient_is_softmax_minus_one_hot() -> None:
    logits = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 4, 2, 2, 1, 3, 0])
    terms = classification_loss(logits, labels)
    expected, right = 0.0, 0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        expected += (math.log(sum(math.exp(value) for value in row)) - row[label]) / 7
        right += max(range(5), key=row.__getitem__) == label
    assert terms.loss.item() == pytest.approx(expected, rel=1e-12)
    assert terms.accuracy.item() == pytest.approx(right / 7)
    terms.loss.backward()
    one_hot = torch.nn.functional.one_hot(labels, 5)
    torch.testing.assert_close(logits.grad, (logits.detach().softmax(dim=1) - one_hot) / 7)
    assert not terms.accuracy.requires_grad


def test_half_precision_is_computed_in_single() -> None:
    logits = torch.full((2, 3), 100.0, dtype=torch.bfloat16)
    assert classification_loss(logits, torch.tensor([0, 2])).loss.dtype == torch.float32


class Two(Ranks):
    """The first of two ranks; the other one has three rows of 10."""

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.add_(30.0)


def test_the_mean_over_ranks_counts_every_row_once() -> None:
    rows = torch.tensor([1.0, 2.0], requires_grad=True)
    mean = batch_mean(rows, Two(0, 2), (2, 3))
    assert mean.item() == pytest.approx(33 / 5)
    mean.backward()
    assert rows.grad.tolist() == pytest.approx([1 / 5, 1 / 5])
    assert batch_mean(rows).item() == 1.5


def test_the_accuracy_over_ranks_is_the_whole_batchs() -> None:
    """Two rows here of which one is right, and 30 of the other rank's three that say they are, as `Two` has it."""
    logits, labels = torch.eye(2, 4), torch.tensor([0, 2])
    plain = classification_loss(logits, labels, ranks=Two(0, 2), shares=(2, 3))
    mixed = mixed_classification_loss(logits, labels, labels, torch.ones(2), ranks=Two(0, 2), shares=(2, 3))
    assert plain.accuracy.item() == mixed.accuracy.item() == pytest.approx((1 + 30) / 5)
    rows = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    assert plain.loss.item() == pytest.approx((rows.item() + 30) / 5)
