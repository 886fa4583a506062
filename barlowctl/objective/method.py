"""A method: views and what belongs to their batch in, a loss and its terms out.

`Method` is the interface that the engine trains. A method owns every module and every extra state it needs (momentum
encoders, queues and prototypes would live here) and describes itself, so nothing else knows any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Unpack

import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.objective.barlow_twins import LAMBD, LossOptions, LossTerms, barlow_twins_loss, choose_form


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
        views: how many views of each image it takes.
        terms: the terms beside the loss, in their order: name -> what it says, for people.
        fixed_rates: names of heads whose learning rate stays at its peak instead of following the schedule.
    """

    backbone: nn.Module
    views: ClassVar[int]
    terms: ClassVar[Mapping[str, str]]
    fixed_rates: ClassVar[tuple[str, ...]] = ()

    def forward(self, views: Sequence[Tensor], targets: Targets | None = None) -> Terms:
        """Views of the same images, each `(N, C, H, W)` -> the loss and its terms."""
        if targets is None:
            targets = Targets.unlabelled(len(views[0]), views[0].device)
        return self.compare(self.embeddings(views), targets)

    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Views of some images of a batch -> what `compare` takes, row by row (micro-batches call it in parts)."""
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

    def after_step(self, progress: Tensor) -> None:
        """Called after every optimizer step (see `Targets.progress`), for moving averages and queues.

        Both hooks may be captured with a step and replayed on a GPU: what they change is tensors, in place, and what
        they decide by is `progress`.
        """

    def moving(self) -> Sequence[Tensor]:
        """What `after_step` changes beside buffers: put back with them when a step is taken back."""
        return ()

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
