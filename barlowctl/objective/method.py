"""A method: a list of views in, a loss and its terms out.

`Method` is the interface that the engine trains. A method owns every module and every extra state
it needs (momentum encoders, queues and prototypes would live here), so the loop knows none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.objective.barlow_twins import LossOptions, LossTerms, barlow_twins_loss


class Method(nn.Module):
    """What every method offers.

    Attributes:
        backbone: images `(N, C, H, W)` -> features `(N, F)`; what is evaluated and exported.
    """

    backbone: nn.Module

    def forward(self, views: Sequence[Tensor]) -> LossTerms:
        """Views of the same images, each `(N, C, H, W)` -> the loss and its terms."""
        return self.compare(self.embeddings(views))

    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Views of some images of a batch -> what `compare` takes, row by row (micro-batches call it in parts)."""
        raise NotImplementedError

    def compare(self, embeddings: Sequence[Tensor]) -> LossTerms:
        """Embeddings of the whole batch, each `(N, D)` -> the loss and its terms. It has no parameters."""
        raise NotImplementedError

    def take_labels(self, labels: Tensor) -> None:
        """Called before every step with the labels `(N,)` of the batch's images, on the CPU; -1: unlabelled.

        Self-supervised methods leave them alone.
        """

    def after_step(self) -> None:
        """Called after every optimizer step; moving averages and queues are updated here."""

    def embed(self, images: Tensor) -> Tensor:
        """Images `(N, C, H, W)` -> features `(N, F)` of the backbone."""
        features: Tensor = self.backbone(images)
        return features


class BarlowTwins(Method):
    """Barlow Twins, with the two asymmetries of Table 6 as options.

    Each view goes through backbone and projector by itself, as in the authors' code, so batch norm
    inside them sees one view at a time.

    Args:
        backbone: images -> features.
        projector: features -> embeddings `(N, D)`.
        predictor: embeddings -> embeddings, on the first branch only ("on one branch", Table 6; the
            loss is not symmetrised, because the paper adds neither a second pass nor a second term).
        stop_gradient: the second branch is a constant: it is computed without a graph.
        scale: factor on the loss, not on the terms.
        loss_options: the keyword arguments of `barlow_twins_loss`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        *,
        predictor: nn.Module | None = None,
        stop_gradient: bool = False,
        scale: float = 1.0,
        **loss_options: Unpack[LossOptions],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector
        self.predictor = predictor
        self.stop_gradient = stop_gradient
        self.scale = scale
        self.loss_options = loss_options

    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Two views `(N, C, H, W)` of the same images -> their embeddings `(N, D)`; a constant has no graph."""
        if len(views) != 2:
            raise UserError(f"Barlow Twins compares 2 views of each image, got {len(views)}", allowed="2")
        z1 = self.projector(self.backbone(views[0]))
        if self.predictor is not None:
            z1 = self.predictor(z1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.stop_gradient):
            z2 = self.projector(self.backbone(views[1]))
        return [z1, z2]

    def compare(self, embeddings: Sequence[Tensor]) -> LossTerms:
        """Embeddings `(N, D)` of both views -> scaled loss, unscaled terms."""
        terms = barlow_twins_loss(embeddings[0], embeddings[1], **self.loss_options)
        return terms._replace(loss=self.scale * terms.loss)
