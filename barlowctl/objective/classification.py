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


def mixed_classification_loss(
    logits: Tensor,
    labels: Tensor,
    others: Tensor,
    image_shares: Tensor,
    *,
    smoothing: float = 0.0,
    ranks: Ranks = ALONE,
    shares: Sequence[int] | None = None,
) -> ClassificationTerms:
    """Mean cross-entropy with smoothed targets of images that are mixed of two, and the accuracy without a gradient.

        loss of a row = s CE(logits, labels) + (1 - s) CE(logits, others),   s the first image's share, CE of the target
        t = (1 - smoothing) onehot(label) + smoothing / classes              (Szegedy et al. 2016, arXiv 1512.00567)

    which is the cross-entropy with the mixed target of mixup (Zhang et al. 2018, arXiv 1710.09412) and CutMix (Yun et
    al. 2019, arXiv 1905.04899), as timm's `Mixup` makes it. What counts as right is the label with the larger share.
    Computed in float32 (float64 for float64 input) also under autocast. Over several ranks each gives its own rows.

    Args:
        logits: `(N, classes)`. labels, others: int64 `(N,)`, of the two images of each row.
        image_shares: `(N,)`, in [0, 1]: how much of each row is the first image.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    image_shares = image_shares.detach().to(logits.dtype)
    first, second = (
        torch.nn.functional.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing)
        for target in (labels, others)
    )
    right = (logits.detach().argmax(dim=1) == torch.where(image_shares >= 0.5, labels, others)).to(logits.dtype)
    rows = torch.stack([image_shares * first + (1.0 - image_shares) * second, right], dim=1)
    loss, accuracy = batch_mean(rows, ranks, shares)
    return ClassificationTerms(loss, accuracy.detach())
