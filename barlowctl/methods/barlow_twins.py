"""Barlow Twins as a method: backbone, projector, and the asymmetries of Table 6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.methods.base import Method, Targets
from barlowctl.objective.barlow_twins import LAMBD, LossOptions, LossTerms, barlow_twins_loss, choose_form


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

    views = 2
    terms: ClassVar[Mapping[str, str]] = {
        "invariance": "Σ (1 − Cᵢᵢ)²: what the distortions change",
        "redundancy": "Σ Cᵢⱼ², before lambd: what dimensions share",
    }

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

    def forward(self, views: Sequence[Tensor], targets: Targets | None = None) -> LossTerms:
        """Both views of the same images, each `(N, C, H, W)` -> scaled loss, unscaled terms."""
        if targets is None:
            targets = Targets.unlabelled(len(views[0]), views[0].device)
        return self.compare(self.embeddings(views), targets)

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

    def compare(self, embeddings: Sequence[Tensor], targets: Targets) -> LossTerms:
        """Embeddings `(N, D)` of both views -> scaled loss, unscaled terms."""
        terms = barlow_twins_loss(embeddings[0], embeddings[1], shares=targets.shares, **self.loss_options)
        return terms._replace(loss=self.scale * terms.loss)

    def heads(self) -> dict[str, nn.Module]:
        """The projector, and the predictor where there is one."""
        return {"projector": self.projector, **({"predictor": self.predictor} if self.predictor is not None else {})}

    def describe(self, batch: int, ranks: int = 1) -> str:
        """The weight of the redundancy term, and the form that the loss takes at that batch."""
        width = [layer.out_features for layer in self.projector.modules() if isinstance(layer, nn.Linear)][-1]
        form = self.loss_options.get("form", "auto")
        if self.loss_options.get("criterion") == "cross-entropy":
            form = "primal"
        elif form == "auto":
            form = choose_form(batch, width, ranks)
        over = f" over {ranks} ranks" if ranks > 1 else ""
        return f"lambd {self.loss_options.get('lambd', LAMBD):g}, {form} form at batch {batch}{over} and width {width}"

    def project(self, images: Tensor) -> Tensor:
        """Images `(N, C, H, W)` -> the projector's embeddings `(N, D)`."""
        embedded: Tensor = self.projector(self.backbone(images))
        return embedded
