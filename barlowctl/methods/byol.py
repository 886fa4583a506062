"""BYOL: an online network predicts what a target network, its moving average, makes of the other view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from barlowctl.distributed import ALONE, Ranks
from barlowctl.methods.base import Method, Targets
from barlowctl.methods.collapse import collapsed
from barlowctl.methods.momentum import MovingAverage, Schedule
from barlowctl.methods.views import check_views
from barlowctl.objective.byol import ByolTerms, byol_loss


class BYOL(Method):
    """BYOL (Grill et al. 2020, arXiv 2006.07733): what is trained, evaluated and exported is the online network.

    Both views go through both networks, each view by itself, so that batch norm sees one view at a time. The target
    network is in training mode as the online one is: its batch norm normalises by the batch and keeps running
    statistics of its own. It follows after each optimizer step.

    Deviation: the target begins as a copy of the online network; the authors draw its weights by another seed. It is
    the average of them soon.

    Args:
        backbone: images -> features. projector: features -> projections `(N, D)`.
        predictor: projections -> predictions `(N, D)`, of the online network only.
        momentum: tau, of a cosine its first value. schedule: "cosine": tau rises to 1 as training goes on.
    """

    views = 2
    terms: ClassVar[Mapping[str, str]] = {"spread": "of the target's projections: near 1 healthy, 0 collapsed"}

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        *,
        momentum: float = 0.996,
        schedule: Schedule = "cosine",
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        self.backbone, self.projector, self.predictor = backbone, projector, predictor
        self.target = MovingAverage(backbone, projector, momentum=momentum, schedule=schedule)
        self.ranks = ranks

    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Two views `(N, C, H, W)` -> predictions of each, then the target's projections of each, all `(N, D)`."""
        check_views("BYOL", views, self.views)
        predictions = [self.predictor(projected) for projected in self.embed_each(self.project, views)]
        return [*predictions, *[self.target(view) for view in views]]

    def compare(self, embeddings: Sequence[Tensor], targets: Targets) -> ByolTerms:
        """Predictions of two views and the target's projections of them against each other."""
        p1, p2, z1, z2 = embeddings
        return byol_loss(p1, p2, z1, z2, ranks=self.ranks, shares=targets.shares)

    def after_step(self, progress: Tensor) -> None:
        """The target follows the online network."""
        self.target.follow(self.backbone, self.projector, progress=progress)

    def begin_copies(self) -> None:
        """The target is a copy of the online network."""
        self.target.begin(self.backbone, self.projector)

    def moving(self) -> list[Tensor]:
        """The target's parameters."""
        return list(self.target.parameters())

    def heads(self) -> dict[str, nn.Module]:
        """Projector and predictor of the online network."""
        return {"projector": self.projector, "predictor": self.predictor}

    def describe(self, batch: int, ranks: int = 1) -> str:
        """How the target follows."""
        rises = ", rising to 1" if self.target.schedule == "cosine" else ""
        return f"prediction of a target network that follows with momentum {self.target.momentum:g}{rises}"

    def alarm(self, values: Mapping[str, float], progress: float) -> str | None:
        """Collapse: see `collapsed`."""
        return collapsed(values)

    def project(self, images: Tensor) -> Tensor:
        """Images `(N, C, H, W)` -> the online network's projections `(N, D)`."""
        projected: Tensor = self.projector(self.backbone(images))
        return projected
