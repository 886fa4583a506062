"""VICReg as a method: backbone and expander, the loss of variance, invariance and covariance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, get_args

from torch import Tensor, nn

from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError
from barlowctl.methods.base import Method, Targets
from barlowctl.objective.barlow_twins import Form, check_option
from barlowctl.objective.settings import check_positive, check_weights
from barlowctl.objective.vicreg import VICRegTerms, vicreg_loss

COLLAPSED = 0.9
"""The variance term from which on embeddings are one point: a standard deviation of 0.1, in the mean of dimensions."""


class VICReg(Method):
    """VICReg (arXiv 2105.04906). Each view goes through backbone and projector by itself, as in the authors' code.

    Args:
        backbone: images -> features.
        projector: features -> embeddings `(N, D)`; the paper calls it the expander.
        invariance, variance, covariance: weights of the three terms.
        scale: factor on the loss, not on the terms.
        form: of the covariance term, see `vicreg_loss`.
        ranks: those that share the batch.
    """

    views = 2
    terms: ClassVar[Mapping[str, str]] = {
        "invariance": "mean (z₁ − z₂)²: what the distortions change",
        "variance": "½ Σ mean max(0, 1 − std): 0 when every dimension varies by 1 or more, 0.99 at collapse",
        "covariance": "Σ Covᵢⱼ² / D of both views: what dimensions share",
    }

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        *,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        scale: float = 1.0,
        form: Form = "auto",
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        check_weights(invariance=invariance, variance=variance, covariance=covariance)
        check_positive(scale=scale)
        check_option("form", form, get_args(Form))
        self.backbone = backbone
        self.projector = projector
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.scale = scale
        self.form = form
        self.ranks = ranks

    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Two views `(N, C, H, W)` of the same images -> their embeddings `(N, D)`."""
        if len(views) != 2:
            raise UserError(f"VICReg compares 2 views of each image, got {len(views)}", allowed="2")
        return self.embed_each(self.project, views)

    def compare(self, embeddings: Sequence[Tensor], targets: Targets) -> VICRegTerms:
        """Embeddings `(N, D)` of both views -> scaled loss, unscaled terms."""
        terms = vicreg_loss(
            embeddings[0],
            embeddings[1],
            invariance=self.invariance,
            variance=self.variance,
            covariance=self.covariance,
            form=self.form,
            ranks=self.ranks,
            shares=targets.shares,
        )
        return terms._replace(loss=self.scale * terms.loss)

    def heads(self) -> dict[str, nn.Module]:
        """The projector."""
        return {"projector": self.projector}

    def describe(self, batch: int, ranks: int = 1) -> str:
        """The weights of the terms."""
        return f"VICReg, invariance {self.invariance:g}, variance {self.variance:g}, covariance {self.covariance:g}"

    def alarm(self, values: Mapping[str, float], progress: float) -> str | None:
        """Collapse to a point, around which directions may differ still: of all losses this one knows lengths."""
        if (variance := values.get("variance", 0.0)) < COLLAPSED:
            return None
        return (
            f"the embeddings have collapsed: their dimensions hardly vary (variance {variance:.2f}, healthy near 0, "
            "0.99 where all images are one point), whatever the loss says; a larger objective.variance, or a lower "
            "optimizer.lr, may keep them apart"
        )

    def project(self, images: Tensor) -> Tensor:
        """Images `(N, C, H, W)` -> the projector's embeddings `(N, D)`."""
        embedded: Tensor = self.projector(self.backbone(images))
        return embedded
