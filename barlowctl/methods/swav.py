"""SwAV: each view predicts the codes of the others, which an optimal assignment of the batch to prototypes gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError
from barlowctl.methods.base import Method, Targets
from barlowctl.methods.collapse import collapsed
from barlowctl.methods.given import check_width
from barlowctl.objective.batch_statistics import full_precision
from barlowctl.objective.settings import check_counts, check_positive, check_weights
from barlowctl.objective.similarity import unit_rows
from barlowctl.objective.spread import direction_spread
from barlowctl.objective.swav import ANCHORS, swav_loss

STUCK = 0.99
"""Share of ln K above which the loss says that nothing is learned."""


class SwavTerms(NamedTuple):
    """Scalars: the loss, the mean entropy of the codes, and the spread of the embeddings."""

    loss: Tensor
    entropy: Tensor
    spread: Tensor


class SwAV(Method):
    """SwAV (Caron et al. 2020, arXiv 2006.09882), with two large views and any number of small ones beside them.

    As in the authors' code the backbone is called once for each size of views, so that its batch norm sees all views
    of a size together, and the projector once for all. Prototypes are scaled to length 1 before every step.

    Deviation: embeddings and scores are computed in float32 also under autocast; the authors' mixed precision rounds
    scores to half precision.

    Args:
        backbone: images -> features. projector: features -> embeddings `(N, D)`.
        width: D. prototypes: K; scores are made by a Linear without bias.
        temperature: of predictions. epsilon, iterations: of the codes, see `objective.swav.sinkhorn`.
        frozen_share: prototypes stay as they are for this share of training, at its beginning.
        queue: how many earlier samples the codes are computed with too, over all ranks; 0: none. It is the same on
            every rank: Deviation, the authors' ranks have a part of it each, which another number of them cannot take.
        queue_from: the share of training from which samples go into the queue; it is used when it is full.
    """

    views = 2
    terms: ClassVar[Mapping[str, str]] = {
        "entropy": "of the codes: ln K where they say nothing; the loss is this and what predictions miss",
        "spread": "of the embeddings: near 1 healthy, 0 collapsed",
    }
    queue: Tensor | None

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        *,
        width: int,
        prototypes: int,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        frozen_share: float = 0.0,
        queue: int = 0,
        queue_from: float = 0.0,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        check_positive(temperature=temperature, epsilon=epsilon)
        check_weights(frozen_share=frozen_share, queue_from=queue_from)
        check_counts(1, width=width, iterations=iterations)
        check_counts(2, prototypes=prototypes)
        check_counts(0, queue=queue)
        self.backbone, self.projector = backbone, projector
        self.prototypes = nn.Linear(width, prototypes, bias=False)
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations
        self.frozen_share, self.queue_from = frozen_share, queue_from
        self.ranks = ranks
        self.register_buffer("queue", torch.zeros(ANCHORS, queue, width) if queue else None)
        self._queue_next: Tensor | None = None

    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        """V views `(N, C, H, W)`, the large ones first -> V scores `(N, K)`, then two constant embeddings `(N, D)`."""
        if len(views) < self.views:
            raise UserError(f"SwAV compares 2 views of each image or more, got {len(views)}", allowed="2 or more")
        sizes = groupby(views, key=lambda view: view.shape[-2:])
        features = torch.cat([self.backbone(torch.cat(list(same))) for _, same in sizes])
        projected = self.projector(features)
        check_width(self.prototypes.in_features, projected)
        with full_precision(projected):
            embedded = unit_rows(projected)  # (V N, D)
            scores = self.prototypes(embedded)  # (V N, K)
        return [*scores.chunk(len(views)), *embedded.detach().chunk(len(views))[:ANCHORS]]

    def compare(self, embeddings: Sequence[Tensor], targets: Targets) -> SwavTerms:
        """Scores of all views, and embeddings of the first two for the queue."""
        scores, anchors = embeddings[:-ANCHORS], [z.detach() for z in embeddings[-ANCHORS:]]
        queued, counts = self._from_queue()
        loss, entropy = swav_loss(
            scores,
            temperature=self.temperature,
            epsilon=self.epsilon,
            iterations=self.iterations,
            queued=queued,
            counts=counts,
            ranks=self.ranks,
            shares=targets.shares,
        )
        self._queue_next = self._with(anchors, targets)
        return SwavTerms(loss, entropy, direction_spread(torch.cat(anchors), self.ranks))

    @torch.no_grad()
    def _from_queue(self) -> tuple[Tensor | None, Tensor | None]:
        """Scores `(2, L, K)` of the queue with the prototypes of now, and which rows count: all, once it is full."""
        if self.queue is None:
            return None, None
        with full_precision(self.queue):
            scores = self.queue @ self.prototypes.weight.t()
        return scores, (self.queue[:, -1] != 0.0).any().expand(self.queue.shape[1])

    @torch.no_grad()
    def _with(self, anchors: Sequence[Tensor], targets: Targets) -> Tensor | None:
        """The queue after this batch, newest rows first; as it is before training has come to `queue_from`."""
        if self.queue is None:
            return None
        shares = self.ranks.shares(len(anchors[0])) if targets.shares is None else targets.shares
        newest = torch.stack([self.ranks.gather(z, shares) for z in anchors])  # (2, N, D)
        moved = torch.cat([newest, self.queue], dim=1)[:, : self.queue.shape[1]]
        return torch.where(targets.progress >= self.queue_from, moved, self.queue)

    @torch.no_grad()
    def before_step(self, progress: Tensor) -> None:
        """Every prototype is scaled to length 1."""
        weight = self.prototypes.weight
        weight.copy_(nn.functional.normalize(weight, dim=1))

    def withheld(self, progress: float) -> Sequence[Tensor]:
        """The prototypes, for the first share of training."""
        return (self.prototypes.weight,) if progress < self.frozen_share else ()

    @torch.no_grad()
    def after_step(self, progress: Tensor) -> None:
        """The batch goes into the queue."""
        if self.queue is not None and self._queue_next is not None:
            self.queue.copy_(self._queue_next)
            self._queue_next = None

    def moving(self) -> list[Tensor]:
        """The prototypes, which `before_step` scales."""
        return [self.prototypes.weight]

    def heads(self) -> dict[str, nn.Module]:
        """Projector and prototypes."""
        return {"projector": self.projector, "prototypes": self.prototypes}

    def describe(self, batch: int, ranks: int = 1) -> str:
        """Prototypes, and what is beside the batch."""
        parts = [f"codes over {self.prototypes.out_features} prototypes"]
        if self.frozen_share > 0.0:
            parts.append(f"which stay as they are for the first {self.frozen_share:.1%} of training")
        if self.queue is not None:
            parts.append(f"with a queue of {self.queue.shape[1]} from {self.queue_from:.0%} of training on")
        return ", ".join(parts)

    def alarm(self, values: Mapping[str, float], progress: float) -> str | None:
        """A loss that stays at ln K once prototypes are trained, and collapse."""
        nothing = math.log(self.prototypes.out_features)
        if progress > self.frozen_share and values["loss"] > STUCK * nothing:
            return (
                f"the loss is {values['loss']:.3f}, and that of scores that say nothing is ln K = {nothing:.3f}: "
                "nothing is learned; a smaller objective.epsilon (0.03), fewer objective.prototypes, or a larger "
                "objective.freeze_prototypes_epochs may help"
            )
        return collapsed(values)

    def project(self, images: Tensor) -> Tensor:
        """Images `(N, C, H, W)` -> the embeddings `(N, D)`, before they are scaled to length 1."""
        projected: Tensor = self.projector(self.backbone(images))
        return projected
