"""A method: views and what belongs to their batch in, a loss and its terms out.

`Method` is the interface that the engine trains. A method owns every module and every extra state it needs (momentum
encoders, queues, prototypes, memory banks) and describes itself, so nothing else knows any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn


class Terms(Protocol):
    """What a step computes: a named tuple of scalars whose first field is the loss; the others carry no gradient."""

    @property
    def loss(self) -> Tensor:
        """What is minimised."""

    def _asdict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Targets:
    """What belongs to a batch beside its views, on the device that computes.

    Attributes:
        labels: int64 `(n,)`, of this rank's rows; -1: unlabelled. Self-supervised methods leave them alone.
        indices: int64 `(n,)`, the images' positions in the source.
        shares: how many rows each rank has, in the order of ranks; None: not agreed, so that who needs it asks.
        progress: 0-dimensional, the share of the training's steps that are done, in [0, 1).
    """

    labels: Tensor
    indices: Tensor
    shares: tuple[int, ...] | None
    progress: Tensor

    @classmethod
    def unlabelled(cls, rows: int, device: torch.device | str = "cpu", *, label: int = -1) -> Targets:
        """Of a batch that stands alone, at the beginning of a training; `label`: of every image."""
        labels = torch.full((rows,), label, dtype=torch.int64, device=device)
        return cls(labels, torch.arange(rows, device=device), None, torch.zeros((), device=device))


class Method(nn.Module):
    """What every method offers.

    Attributes:
        backbone: images `(N, C, H, W)` -> features `(N, F)`; what is evaluated and exported.
        views: how many views of each image it takes, at least.
        terms: the terms beside the loss, in their order: name -> what it says, for people.
        fixed_rates: names of heads whose learning rate stays at its peak instead of following the schedule.
    """

    backbone: nn.Module
    views: int
    terms: ClassVar[Mapping[str, str]]
    fixed_rates: tuple[str, ...] = ()

    def forward(self, views: Sequence[Tensor], targets: Targets | None = None) -> Terms:
        """Views of the same images, each `(N, C, H, W)` -> the loss and its terms."""
        if targets is None:
            targets = Targets.unlabelled(len(views[0]), views[0].device)
        return self.compare(self.embeddings(self.arrange(views, targets)), targets)

    def arrange(self, views: Sequence[Tensor], targets: Targets) -> Sequence[Tensor]:
        """Views of the whole batch of this rank -> what `embeddings` takes: rows moved where a method mixes images."""
        return views

    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Arranged views of some images of a batch -> what `compare` takes, row by row (micro-batches: in parts)."""
        raise NotImplementedError

    def compare(self, embeddings: Sequence[Tensor], targets: Targets) -> Terms:
        """Embeddings of the whole batch, each `(N, D)` -> the loss and its terms. It has no parameters."""
        raise NotImplementedError

    def heads(self) -> Mapping[str, nn.Module]:
        """What is trained beside the backbone and left behind when that is used, by name."""
        raise NotImplementedError

    def describe(self, batch: int, ranks: int = 1) -> str:
        """The objective at a batch of so many images over all ranks, for people."""
        raise NotImplementedError

    def project(self, images: Tensor) -> Tensor | None:
        """Images `(N, C, H, W)` -> the embeddings `(N, D)` that views are compared by; None: it compares no pair."""
        return None

    def before_step(self, progress: Tensor) -> None:
        """Called before every step (see `Targets.progress`), for what is frozen for a while."""

    def withheld(self, progress: float) -> Sequence[Tensor]:
        """What the step that begins at `progress` leaves as it is: gradients are dropped before the optimizer's step.

        A parameter without a gradient is moved by nothing, weight decay and momentum among it. Asked on the host, so
        that a step that withholds something is never captured.
        """
        return ()

    def after_step(self, progress: Tensor) -> None:
        """Called after every optimizer step (see `Targets.progress`), for moving averages and queues.

        Both hooks may be captured with a step and replayed on a GPU: what they change is tensors, in place, and what
        they decide by is `progress`.
        """

    def moving(self) -> Sequence[Tensor]:
        """What `after_step` changes beside buffers: put back with them when a step is taken back."""
        return ()

    def taken_back(self) -> list[Tensor]:
        """What is put back when a step is taken back, beside what the optimizer changes."""
        return [*self.buffers(), *self.moving()]

    def alarm(self, values: Mapping[str, float], progress: float) -> str | None:
        """What is wrong after an epoch, for people; None: nothing is seen to be.

        Args:
            values: metrics: `loss`, the epoch's mean, and the terms of the step that was logged last.
            progress: the share of the training's steps that are done.
        """
        return None

    def embed(self, images: Tensor) -> Tensor:
        """Images `(N, C, H, W)` -> features `(N, F)` of the backbone."""
        features: Tensor = self.backbone(images)
        return features
