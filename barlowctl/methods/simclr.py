"""SimCLR as a method (Chen et al., ICML 2020, arXiv 2002.05709): every other view in the batch is a negative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from barlowctl.distributed import ALONE, Ranks
from barlowctl.methods.base import Method, Targets
from barlowctl.methods.collapse import collapsed
from barlowctl.methods.views import check_views
from barlowctl.objective.settings import check_positive
from barlowctl.objective.simclr import TEMPERATURE, SimCLRTerms, nt_xent


class SimCLR(Method):
    """One network for both views, and NT-Xent over the batch of all ranks.

    Both views go through backbone and projector as one batch of 2 N, as in the authors' code: batch norm inside them
    has the statistics of both.

    Args:
        backbone: images -> features. projector: features -> embeddings `(N, D)`.
        temperature: tau. scale: factor on the loss, not on the terms.
        ranks: those that share the batch.
    """

    views = 2
    terms: ClassVar[Mapping[str, str]] = {
        "similarity": "mean cosine of the two views of an image",
        "accuracy": "share of views whose nearest one in the batch is of the same image",
        "spread": "of the embeddings: near 1 healthy, 0 collapsed",
    }

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        *,
        temperature: float = TEMPERATURE,
        scale: float = 1.0,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        check_positive(temperature=temperature, scale=scale)
        self.backbone = backbone
        self.projector = projector
        self.temperature, self.scale, self.ranks = temperature, scale, ranks

    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Two views `(N, C, H, W)` of the same images -> their embeddings `(N, D)`."""
        check_views("SimCLR", views, self.views)
        return list(self.project(torch.cat(list(views))).chunk(2))

    def compare(self, embeddings: Sequence[Tensor], targets: Targets) -> SimCLRTerms:
        """Embeddings `(N, D)` of both views -> scaled loss, unscaled terms."""
        z1, z2 = embeddings
        terms = nt_xent(z1, z2, temperature=self.temperature, ranks=self.ranks, shares=targets.shares)
        return terms._replace(loss=self.scale * terms.loss)

    def heads(self) -> dict[str, nn.Module]:
        """The projector."""
        return {"projector": self.projector}

    def describe(self, batch: int, ranks: int = 1) -> str:
        """The temperature, and how many negatives a view has."""
        over = f" over {ranks} ranks" if ranks > 1 else ""
        return f"NT-Xent, temperature {self.temperature:g}, {2 * batch - 2:,} negatives of each view{over}"

    def alarm(self, values: Mapping[str, float], progress: float) -> str | None:
        """Collapse: see `collapsed`."""
        return collapsed(values)

    def project(self, images: Tensor) -> Tensor:
        """Images `(N, C, H, W)` -> the projector's embeddings `(N, D)`."""
        embedded: Tensor = self.projector(self.backbone(images))
        return embedded
