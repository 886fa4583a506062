"""A classifier that is trained on mixed images and smoothed labels: fine-tuning as DeiT, BEiT and MAE do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from barlowctl.methods.base import Targets
from barlowctl.methods.classification import Classifier
from barlowctl.methods.image_mixing import ImageMixing
from barlowctl.objective.classification import ClassificationTerms, mixed_classification_loss


class FineTuning(Classifier):
    """A `Classifier` whose images are mixed two by two (`ImageMixing`), and whose labels are mixed and smoothed.

    Image i of a rank's batch of n is mixed with image n - 1 - i of the same batch, as in timm's `Mixup`; batches are
    shuffled, so that this is any two images. How is drawn from the seed and the number of the step, which is state: a
    run that is resumed mixes as it would have, whoever loads the images. In evaluation nothing is mixed.

    Args:
        seed: of what is drawn. label_smoothing: see `mixed_classification_loss`.
        mixup, cutmix, probability, cutmix_share: see `ImageMixing`. others: see `Classifier`.
    """

    terms: ClassVar[Mapping[str, str]] = {
        "accuracy": "share of the batch that is given the label of the image with the larger share in the mixture"
    }
    step: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        *,
        seed: int,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        probability: float = 1.0,
        cutmix_share: float = 0.5,
        **others: Any,
    ) -> None:
        super().__init__(backbone, **others)
        self.seed, self.label_smoothing = seed, label_smoothing
        self.mixing = ImageMixing(mixup, cutmix, probability, cutmix_share) if mixup or cutmix else None
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def arrange(self, views: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        """The view, and its rows in the order of what each is mixed with."""
        return [*views, *(view.flip(0) for view in views if self.mixing is not None)]

    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        """The view and what it is mixed with, each `(N, C, H, W)` -> logits of the mixture, and `(N,)` shares."""
        if self.mixing is None:
            (logits,) = super().embeddings(views)
            return [logits, torch.ones(len(logits), device=logits.device)]
        images, others = views
        weights = self.mixing.weights(self.seed, self.step, *images.shape[-2:])
        mixed = weights.to(images.dtype) * images + (1.0 - weights.to(images.dtype)) * others
        return [*super().embeddings([mixed]), weights.mean().expand(len(images))]

    def compare(self, embeddings: Sequence[Tensor], targets: Targets) -> ClassificationTerms:
        """Logits `(N, num_classes)` of the mixtures and the first image's share of each, against both labels."""
        logits, image_shares = embeddings
        return mixed_classification_loss(
            logits,
            targets.labels,
            targets.labels.flip(0),
            image_shares,
            smoothing=self.label_smoothing,
            ranks=self.ranks,
            shares=targets.shares,
        )

    def after_step(self, progress: Tensor) -> None:
        """The next step draws anew."""
        self.step += 1
