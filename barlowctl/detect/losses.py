"""The five losses of a detector: sums over anchors and RoIs, and the means of the batch of all ranks."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from barlowctl.distributed import ALONE, Ranks


class LossSum(NamedTuple):
    """A sum of losses, and by what it is divided once both are summed over ranks."""

    total: Tensor
    divisor: int


class DetectionTerms(NamedTuple):
    """The losses of a batch, 0-dimensional: `loss` is the sum of the others, which carry no gradient.

    Attributes:
        objectness, rpn_box: of the region proposal network, by `anchors_per_image` for each image.
        classification, box: of the second stage, by the number of sampled RoIs.
        mask: by the number of pixels of the masks of foreground RoIs; 0 where there are no masks.
    """

    loss: Tensor
    objectness: Tensor
    rpn_box: Tensor
    classification: Tensor
    box: Tensor
    mask: Tensor


def classification_sum(logits: Tensor, labels: Tensor) -> LossSum:
    """Cross-entropy of RoIs: logits `(R, K + 1)`, labels `(R,)`, by R."""
    return LossSum(F.cross_entropy(logits, labels, reduction="sum"), len(labels))


def box_sum(deltas: Tensor, labels: Tensor, targets: Tensor) -> LossSum:
    """L1 of the deltas of each foreground RoI's own class, by R: backgrounds count in the divisor.

    Args:
        deltas: `(R, 4 (K + 1))`, class by class. labels: `(R,)`, 0: background. targets: `(R, 4)`.
    """
    foreground = torch.where(labels > 0)[0]
    own_class = deltas.view(len(labels), -1, 4)[foreground, labels[foreground]]
    return LossSum(F.l1_loss(own_class, targets[foreground].to(deltas.dtype), reduction="sum"), len(labels))


def mask_sum(logits: Tensor, labels: Tensor, targets: Tensor) -> LossSum:
    """Binary cross-entropy of the mask of each RoI's own class, by the number of its pixels.

    Args:
        logits: `(R, K, M, M)` of foreground RoIs. labels: `(R,)`, 0..K-1. targets: `(R, M, M)`, 0 or 1.
    """
    own_class = logits[torch.arange(len(labels), device=labels.device), labels]
    loss = F.binary_cross_entropy_with_logits(own_class, targets.to(logits.dtype), reduction="sum")
    return LossSum(loss, targets.numel())


class _GlobalMeans(torch.autograd.Function):
    """Sums `(k,)` and counts `(k,)` -> sums over ranks by counts over ranks; gradient as `distributed` states it."""

    @staticmethod
    def forward(ctx: Any, sums: Tensor, counts: Tensor, ranks: Ranks) -> Tensor:
        totals, divisors = ranks.add(torch.stack([sums.double(), counts.double()]))
        divisors = divisors.clamp_min(1.0)
        ctx.save_for_backward(divisors)
        return (totals / divisors).to(sums.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (divisors,) = ctx.saved_tensors
        return (grad / divisors).to(grad.dtype), None, None


def batch_terms(
    objectness: LossSum, rpn_box: LossSum, classification: LossSum, box: LossSum, mask: LossSum, ranks: Ranks = ALONE
) -> DetectionTerms:
    """The terms of the batch of all ranks, the same on each; one of which no rank has anything is 0.

    Deviation: detectron2 divides on each GPU by what was sampled there, and takes the mean over GPUs. That is the same
    where GPUs sampled equally many RoIs; a foreground RoI's mask weighs less there on a GPU that has many of them.
    """
    parts = (objectness, rpn_box, classification, box, mask)
    sums = torch.stack([part.total for part in parts])
    counts = torch.tensor([part.divisor for part in parts], dtype=torch.float64).to(sums.device)
    means: Tensor = _GlobalMeans.apply(sums, counts, ranks)
    return DetectionTerms(means.sum(), *means.detach().unbind())
