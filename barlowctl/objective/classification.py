"""Classification as a method: a linear classifier on a backbone, frozen or fine-tuned (paper, sections 3.1 and 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.objective.method import Method


class ClassificationTerms(NamedTuple):
    """Mean cross-entropy, and the share of the batch that is classified correctly."""

    loss: Tensor
    accuracy: Tensor


class Classifier(Method):
    """One view in, cross-entropy of a linear classifier on the backbone's features out.

    The classifier starts from N(0, 0.01) weights and zero biases, as in the authors' code.

    Args:
        backbone: images -> features `(N, width)`.
        frozen: the backbone takes no gradient and stays in evaluation mode, whatever `train()` says: neither
            its weights nor its running statistics move.
    """

    def __init__(self, backbone: nn.Module, *, width: int, num_classes: int, frozen: bool) -> None:
        super().__init__()
        if num_classes < 2:
            raise UserError(f"a classifier of {num_classes} class", allowed="at least 2 classes")
        self.backbone = backbone
        self.head = nn.Linear(width, num_classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        self.frozen = frozen
        self.backbone.requires_grad_(not frozen)
        self._labels: Tensor | None = None

    def train(self, mode: bool = True) -> Classifier:
        """Training mode; of the head alone where the backbone is frozen."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def take_labels(self, labels: Tensor) -> None:
        """Labels `(N,)` of the next batch, in [0, num_classes)."""
        self._labels = labels.to(self.head.weight.device, torch.int64, copy=True)

    def logits(self, images: Tensor) -> Tensor:
        """Images `(N, C, H, W)` -> `(N, num_classes)`."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.backbone(images)
        scores: Tensor = self.head(features)
        return scores

    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        """One view `(N, C, H, W)` -> its logits."""
        if len(views) != 1:
            raise UserError(f"a classifier takes 1 view of each image, got {len(views)}", allowed="1")
        return [self.logits(views[0])]

    def compare(self, embeddings: Sequence[Tensor]) -> ClassificationTerms:  # type: ignore[override]
        """Logits `(N, num_classes)` against the labels that were taken."""
        (logits,) = embeddings
        assert self._labels is not None, "take_labels comes first"
        loss = nn.functional.cross_entropy(logits.float(), self._labels)
        return ClassificationTerms(loss, (logits.detach().argmax(dim=1) == self._labels).float().mean())

    def forward(self, views: Sequence[Tensor]) -> ClassificationTerms:  # type: ignore[override]
        """One view of each image of a batch -> cross-entropy against the labels that were taken."""
        return self.compare(self.embeddings(views))
