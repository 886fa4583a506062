"""Classification as a method: a linear classifier on a backbone, frozen, fine-tuned or trained from the beginning.

Frozen and fine-tuned it measures (paper, sections 3.1 and 3.2); from the beginning it is the supervised row of Table 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError
from barlowctl.methods.base import Method, Targets
from barlowctl.objective.classification import ClassificationTerms, classification_loss


class Classifier(Method):
    """One view in, cross-entropy of a linear classifier on the backbone's features out.

    The classifier starts from N(0, 0.01) weights and zero biases, as in the authors' code.

    Args:
        backbone: images -> features `(N, width)`.
        frozen: the backbone takes no gradient and stays in evaluation mode, whatever `train()` says: neither
            its weights nor its running statistics move.
        ranks: those that share the batch.
    """

    views = 1
    terms: ClassVar[Mapping[str, str]] = {"accuracy": "share of the batch that is classified correctly"}

    def __init__(
        self, backbone: nn.Module, *, width: int, num_classes: int, frozen: bool, ranks: Ranks = ALONE
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise UserError(f"a classifier of {num_classes} class", allowed="at least 2 classes")
        self.backbone = backbone
        self.head = nn.Linear(width, num_classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        self.frozen, self.ranks = frozen, ranks
        self.backbone.requires_grad_(not frozen)

    def train(self, mode: bool = True) -> Self:
        """Training mode; of the head alone where the backbone is frozen."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

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

    def compare(self, embeddings: Sequence[Tensor], targets: Targets) -> ClassificationTerms:
        """Logits `(N, num_classes)` against the labels, in [0, num_classes)."""
        (logits,) = embeddings
        return classification_loss(logits, targets.labels, ranks=self.ranks, shares=targets.shares)

    def heads(self) -> dict[str, nn.Module]:
        """The linear classifier."""
        return {"head": self.head}

    def describe(self, batch: int, ranks: int = 1) -> str:
        """What is trained, and on how many classes."""
        return f"cross-entropy over {self.head.out_features} classes, backbone {'frozen' if self.frozen else 'trained'}"
