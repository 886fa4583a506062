"""Mixed Barlow Twins as a method: both views and a third one, mixed of both images by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, get_args

import torch
from torch import Tensor, nn

from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError
from barlowctl.methods import keyed
from barlowctl.methods.base import Method, Targets
from barlowctl.objective.barlow_twins import LAMBD, Form, check_option
from barlowctl.objective.mixed import MixedTerms, mixed_barlow_twins_loss
from barlowctl.objective.settings import check_positive, check_weights

PARTNERS, SHARE = 1, 2
"""Streams of a step's random numbers: who is mixed with whom, and how much of each."""
SHORTEST = torch.finfo(torch.float32).tiny
"""The smallest divisor of progress: a warm-up that is shorter is over with the first step."""


class MixedBarlowTwins(Method):
    """Mixed Barlow Twins (arXiv 2312.02151): alpha x_1 + (1 - alpha) x_2[pi] is the third view.

    alpha, the same on every rank, and pi, a permutation of each rank's own rows as in the authors' code, are drawn from
    the seed and the number of the step, which is state: a run that is resumed mixes as it would have. On another number
    of ranks other images are mixed with one another; the gradient is that of the global batch's loss on any.

    Args:
        backbone: images -> features.
        projector: features -> embeddings `(N, D)`.
        seed: of alpha and pi.
        lambd: weight of the redundancy term. lambd_rule: where it is from, for people; empty: it was given.
        lambd_reg: weight of the mixing term, as a multiple of `lambd`.
        reg_warmup: share of the training in which that weight rises from 0.
        scale: factor on the loss, not on the terms.
        form: see `barlow_twins_loss`. ranks: those that share the batch.
    """

    views = 2
    terms: ClassVar[Mapping[str, str]] = {
        "invariance": "Σ (1 − Cᵢᵢ)²: what the distortions change",
        "redundancy": "Σ Cᵢⱼ², before lambd: what dimensions share",
        "mixing": "how far a mixed image's embedding is from the mixture of embeddings, before its weights",
    }
    step: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        *,
        seed: int = 0,
        lambd: float = LAMBD,
        lambd_rule: str = "",
        lambd_reg: float = 1.0,
        reg_warmup: float = 0.0,
        scale: float = 1.0,
        form: Form = "auto",
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        check_weights(lambd=lambd, lambd_reg=lambd_reg, reg_warmup=reg_warmup)
        check_positive(scale=scale)
        check_option("form", form, get_args(Form))
        self.backbone = backbone
        self.projector = projector
        self.seed = seed
        self.lambd, self.lambd_rule = lambd, lambd_rule
        self.lambd_reg, self.reg_warmup = lambd_reg, reg_warmup
        self.scale = scale
        self.form = form
        self.ranks = ranks
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def partners(self, rows: int) -> Tensor:
        """pi: int64 `(rows,)`, the row of view 2 that each row's mixed image has the rest of."""
        return keyed.permutation(self.seed, self.step, PARTNERS, rows)

    def share(self) -> Tensor:
        """alpha ~ Beta(1, 1), which is uniform in [0, 1]: 0-dimensional."""
        return keyed.uniform(self.seed, self.step, SHARE)

    def arrange(self, views: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        """Both views, and view 2 in the order of the partners."""
        if len(views) != 2:
            raise UserError(f"Mixed Barlow Twins compares 2 views of each image, got {len(views)}", allowed="2")
        return [*views, views[1][self.partners(len(views[1]))]]

    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Both views and the partners `(N, C, H, W)` -> embeddings `(N, D)` of both views and of the mixed one."""
        first, second, partner = views
        alpha = self.share().to(first.dtype)
        mixed = alpha * first + (1.0 - alpha) * partner
        return self.embed_each(self.project, (first, second, mixed))

    def compare(self, embeddings: Sequence[Tensor], targets: Targets) -> MixedTerms:
        """Embeddings `(N, D)` of both views and of the mixed one -> scaled loss, unscaled terms."""
        z1, z2, mixed = embeddings
        risen = (targets.progress / max(self.reg_warmup, SHORTEST)).clamp(max=1.0) if self.reg_warmup else 1.0
        terms = mixed_barlow_twins_loss(
            z1,
            z2,
            mixed,
            alpha=self.share(),
            permutation=self.partners(len(z1)),
            lambd=self.lambd,
            lambd_reg=self.lambd_reg * risen,
            form=self.form,
            ranks=self.ranks,
            shares=targets.shares,
        )
        return terms._replace(loss=self.scale * terms.loss)

    def after_step(self, progress: Tensor) -> None:
        """The next step draws anew."""
        self.step += 1

    def heads(self) -> dict[str, nn.Module]:
        """The projector."""
        return {"projector": self.projector}

    def describe(self, batch: int, ranks: int = 1) -> str:
        """The weights of the terms."""
        risen = f", risen over {100 * self.reg_warmup:.3g} % of the steps" if self.reg_warmup else ""
        rule = f" ({self.lambd_rule})" if self.lambd_rule else ""
        return f"Mixed Barlow Twins, lambd {self.lambd:.4g}{rule}, mixing term {self.lambd_reg:g} x lambd{risen}"

    def project(self, images: Tensor) -> Tensor:
        """Images `(N, C, H, W)` -> the projector's embeddings `(N, D)`."""
        embedded: Tensor = self.projector(self.backbone(images))
        return embedded
