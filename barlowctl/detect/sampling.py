"""Anchors and RoIs sampled for the losses, each image with draws of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from barlowctl.methods.keyed import bits


class KeyedSampler(BalancedPositiveNegativeSampler):
    """torchvision's sampler, whose draws depend on the image's key alone.

    So an image has the same sample on any number of ranks, in any micro-batch and in a run that is resumed: torch's
    generator is left alone.

    Args:
        stream: one for each use of the same keys.

    Attributes:
        keys: of the images of the next call, set by who knows the batch.
    """

    keys: Sequence[int] = ()

    def __init__(self, batch_size_per_image: int, positive_fraction: float, *, stream: int) -> None:
        super().__init__(batch_size_per_image, positive_fraction)
        self.stream = stream

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Per image the masks of the positive and of the negative elements drawn, uint8 of its labels' shape.

        Args:
            matched_idxs: per image: positive from 1 on, negative 0, left out -1.
        """
        assert len(self.keys) == len(matched_idxs), "an image without its key"
        pairs = [self._of_image(labels, key) for labels, key in zip(matched_idxs, self.keys, strict=True)]
        return [positive for positive, _ in pairs], [negative for _, negative in pairs]

    def _of_image(self, labels: Tensor, key: int) -> tuple[Tensor, Tensor]:
        draws = bits(
            key,
            torch.zeros((), dtype=torch.int64, device=labels.device),
            self.stream,
            torch.arange(len(labels), device=labels.device),
        )
        positive, negative = torch.where(labels >= 1)[0], torch.where(labels == 0)[0]
        positives = min(int(self.batch_size_per_image * self.positive_fraction), len(positive))
        negatives = min(self.batch_size_per_image - positives, len(negative))
        return _mask(labels, positive, draws, positives), _mask(labels, negative, draws, negatives)


def _mask(labels: Tensor, candidates: Tensor, draws: Tensor, count: int) -> Tensor:
    """Ones at the `count` candidates with the lowest draws."""
    mask = torch.zeros_like(labels, dtype=torch.uint8)
    mask[candidates[draws[candidates].argsort(stable=True)[:count]]] = 1
    return mask
