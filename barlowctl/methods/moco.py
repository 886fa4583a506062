"""MoCo as a method (He et al., CVPR 2020, arXiv 1911.05722; v2: arXiv 2003.04297): keys of a momentum encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from barlowctl.distributed import ALONE, Ranks
from barlowctl.methods.base import Method, Targets
from barlowctl.methods.collapse import collapsed
from barlowctl.methods.momentum import MovingAverage
from barlowctl.methods.moved_rows import MovedRows
from barlowctl.methods.queue import Queue
from barlowctl.methods.shuffle import shuffled
from barlowctl.methods.views import check_views
from barlowctl.objective.moco import TEMPERATURE, MoCoTerms, info_nce
from barlowctl.objective.settings import check_counts, check_positive
from barlowctl.objective.similarity import unit_rows


class MoCo(Method):
    """Queries of one network against keys of its moving average, and a queue of earlier keys.

    Order of a step, as in the authors' `moco/builder.py`: the key encoder follows; keys of the second view; the loss of
    the first view's queries, with the queue as it was; backward and optimizer; the new keys go into the queue.

    MoCo and MoCo v2 differ in what is given: head, temperature, distortions and schedule.

    Args:
        backbone: images -> features. projector: features -> embeddings `(N, width)`, without batch norm as published.
        width: of the embeddings. batch: images of a training's step, over all ranks; each is a full one.
        queue: keys that are kept. momentum: of the key encoder. temperature: tau.
        symmetric: both views are queries, and keys to the other one's; the loss is the mean of both directions. Chen &
            He, arXiv 2011.10566, compare MoCo v2 so, at twice the cost.
        shuffles: keys are computed in another order, over all ranks: see `shuffle`.
        ranks: those that share the batch.

    Raises:
        UserError: a queue that does not hold a whole number of batches, or a momentum that is none.
    """

    views = 2
    terms: ClassVar[Mapping[str, str]] = {
        "similarity": "mean cosine of a query and the key of the same image",
        "accuracy": "share of queries that are nearer to their key than to the whole queue",
        "spread": "of the queries: near 1 healthy, 0 collapsed",
    }

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        *,
        width: int,
        batch: int,
        queue: int = 65536,
        momentum: float = 0.999,
        temperature: float = TEMPERATURE,
        symmetric: bool = False,
        shuffles: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        check_counts(1, width=width, batch=batch, queue=queue)
        self.backbone = backbone
        self.projector = projector
        self.key_encoder = MovingAverage(backbone, projector, momentum=momentum)
        self.queue = Queue(queue, width, batch=2 * batch if symmetric else batch)
        self.temperature, self.symmetric, self.shuffles, self.ranks = temperature, symmetric, shuffles, ranks
        self._keys: Tensor | None = None  # of the step whose loss was computed, of all ranks
        self._moved: tuple[MovedRows, ...] = ()

    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Two views `(N, C, H, W)` of the same images -> queries and their keys `(N, D)`; symmetric: twice."""
        check_views("MoCo", views, self.views)
        first, second = views
        made = [self.project(first), self._key(second)]
        return [*made, self.project(second), self._key(first)] if self.symmetric else made

    def compare(self, embeddings: Sequence[Tensor], targets: Targets) -> MoCoTerms:
        """Queries and keys `(N, D)` of this rank -> the loss of the whole batch; keeps its keys for `after_step`."""
        shares = targets.shares or self.ranks.shares(len(embeddings[0]))
        queries, keys = embeddings[::2], [unit_rows(k.detach()) for k in embeddings[1::2]]
        self._keys = torch.cat([self.ranks.gather(k, shares) for k in keys])
        terms = [
            info_nce(q, k, self.queue.rows, temperature=self.temperature, ranks=self.ranks, shares=shares)
            for q, k in zip(queries, keys, strict=True)
        ]
        if len(terms) == 1:
            return terms[0]
        return MoCoTerms(*(torch.stack(values).mean() for values in zip(*terms, strict=True)))

    def before_step(self, progress: Tensor) -> None:
        """The key encoder follows before its keys are computed, as in the authors' code."""
        self.key_encoder.follow(self.backbone, self.projector, progress=progress)

    def after_step(self, progress: Tensor) -> None:
        """The newest keys go into the queue."""
        assert self._keys is not None, "a step computes its loss before"
        self._moved = (self.queue.put(self._keys),)

    def begin_copies(self) -> None:
        """The key encoder is a copy of the query's."""
        self.key_encoder.begin(self.backbone, self.projector)

    def moving(self) -> Sequence[Tensor]:
        """The key encoder's parameters."""
        return list(self.key_encoder.parameters())

    def moved_by_row(self) -> Sequence[Tensor]:
        """The queue; its pointer is copied."""
        return (self.queue.rows,)

    def moved_rows(self) -> Sequence[MovedRows]:
        """Those that the batch's keys have taken the place of."""
        return self._moved

    def heads(self) -> dict[str, nn.Module]:
        """The projector."""
        return {"projector": self.projector}

    def describe(self, batch: int, ranks: int = 1) -> str:
        """Temperature, queue and momentum."""
        options = (", symmetric" if self.symmetric else "") + (", shuffled batch norm" if self.shuffles else "")
        return (
            f"InfoNCE, temperature {self.temperature:g}, a queue of {len(self.queue.rows):,} keys, "
            f"key encoder with momentum {self.key_encoder.momentum:g}{options}"
        )

    def alarm(self, values: Mapping[str, float], progress: float) -> str | None:
        """Collapse: see `collapsed`."""
        return collapsed(values)

    def project(self, images: Tensor) -> Tensor:
        """Images `(N, C, H, W)` -> queries `(N, D)`."""
        embedded: Tensor = self.projector(self.backbone(images))
        return embedded

    def _key(self, images: Tensor) -> Tensor:
        keys: Tensor = shuffled(self.key_encoder, images, self.ranks) if self.shuffles else self.key_encoder(images)
        return keys
