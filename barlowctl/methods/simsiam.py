"""SimSiam: a network predicts what it makes of the other view, which is a constant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from barlowctl.distributed import ALONE, Ranks
from barlowctl.methods.base import Method, Targets
from barlowctl.methods.collapse import collapsed
from barlowctl.methods.views import check_views
from barlowctl.objective.simsiam import SimSiamTerms, simsiam_loss


class SimSiam(Method):
    """SimSiam (Chen and He 2021, arXiv 2011.10566), and what its ablations take away.

    Each view goes through the network by itself, so that batch norm sees one view at a time.

    Args:
        backbone: images -> features. projector: features -> projections `(N, D)`.
        predictor: projections -> predictions `(N, D)`; None: projections are compared with each other, which
            collapses (section 4.2).
        stop_gradient: False: the other view is no constant, which collapses (section 4.1).
        fixed_predictor_rate: the predictor's learning rate stays at its peak (Table 1, row c).
    """

    views = 2
    terms: ClassVar[Mapping[str, str]] = {"spread": "of the projections: near 1 healthy, 0 collapsed"}

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        predictor: nn.Module | None,
        *,
        stop_gradient: bool = True,
        fixed_predictor_rate: bool = True,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        self.backbone, self.projector, self.predictor = backbone, projector, predictor
        self.stop_gradient, self.ranks = stop_gradient, ranks
        self.fixed_rates = ("predictor",) if fixed_predictor_rate and predictor is not None else ()

    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Two views `(N, C, H, W)` -> predictions of each, then projections of each, all `(N, D)`."""
        check_views("SimSiam", views, self.views)
        projections = self.embed_each(self.project, views)
        return [*[z if self.predictor is None else self.predictor(z) for z in projections], *projections]

    def compare(self, embeddings: Sequence[Tensor], targets: Targets) -> SimSiamTerms:
        """Predictions and projections of two views against each other."""
        p1, p2, z1, z2 = embeddings
        shares = targets.shares
        return simsiam_loss(p1, p2, z1, z2, stop_gradient=self.stop_gradient, ranks=self.ranks, shares=shares)

    def heads(self) -> dict[str, nn.Module]:
        """The projector, and the predictor where there is one."""
        return {"projector": self.projector, **({} if self.predictor is None else {"predictor": self.predictor})}

    def describe(self, batch: int, ranks: int = 1) -> str:
        """What is compared with what, and whether the predictor learns at a constant rate."""
        compared = "projection" if self.predictor is None else "prediction"
        parts = [f"{compared} of one view with the projection of the other"]
        parts += ["a constant"] if self.stop_gradient else []
        parts += ["the predictor's learning rate stays at its peak"] if self.fixed_rates else []
        return ", ".join(parts)

    def alarm(self, values: Mapping[str, float], progress: float) -> str | None:
        """Collapse: see `collapsed`."""
        return collapsed(values)

    def project(self, images: Tensor) -> Tensor:
        """Images `(N, C, H, W)` -> the projections `(N, D)`."""
        projected: Tensor = self.projector(self.backbone(images))
        return projected
