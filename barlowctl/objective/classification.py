"""Cross-entropy of a classifier: the objective of supervised training and of what is measured with labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from barlowctl.distributed import ALONE, Ranks
from barlowctl.objective.batch_mean import batch_mean


class ClassificationTerms(NamedTuple):
    """Mean cross-entropy, and the share of the batch that is classified correctly."""

    loss: Tensor
    accuracy: Tensor


def classification_loss(
    logits: Tensor, labels: Tensor, *, ranks: Ranks = ALONE, shares: Sequence[int] | None = None
) -> ClassificationTerms:
    """Mean of `-log softmax(logits)[label]` over the batch, and the accuracy, which carries no gradient.

    Computed in float32 (float64 for float64 input) also under autocast. Over several ranks each gives its own rows:
    see `batch_mean`.

    Args:
        logits: `(N, classes)`. labels: int64 `(N,)`, in [0, classes).
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    right = (logits.detach().argmax(dim=1) == labels).to(logits.dtype)
    if ranks.size == 1:
        return ClassificationTerms(torch.nn.functional.cross_entropy(logits, labels), right.mean())
    rows = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    loss, accuracy = batch_mean(torch.stack([rows, right], dim=1), ranks, shares)
    return ClassificationTerms(loss, accuracy.detach())
