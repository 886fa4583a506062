"""Barlow Twins as a method: backbone, projector, small views, and the asymmetries of Table 6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Unpack

import torch
from torch import Tensor, nn

from barlowctl.amounts import counted
from barlowctl.errors import UserError
from barlowctl.methods.base import Method, Targets
from barlowctl.objective.barlow_twins import LAMBD, LossOptions, LossTerms, choose_form, settings_of
from barlowctl.objective.multi_crop import multi_crop_loss
from barlowctl.objective.settings import check_counts, check_positive


class BarlowTwins(Method):
    """Barlow Twins of two views, and of small ones beside them; the two asymmetries of Table 6 are options.

    Each view goes through backbone and projector by itself, as in the authors' code, so batch norm
    inside them sees one view at a time. With small views the loss is `multi_crop_loss`.

    Args:
        backbone: images -> features.
        projector: features -> embeddings `(N, D)`.
        predictor: embeddings -> embeddings, on the first branch only ("on one branch", Table 6; the
            loss is not symmetrised, because the paper adds neither a second pass nor a second term).
        stop_gradient: the second branch is a constant: it is computed without a graph.
        small: how many small views there are beside the two.
        lambd_rule: where lambd is from, for people; empty: it was given.
        scale: factor on the loss, not on the terms.
        loss_options: the keyword arguments of `barlow_twins_loss`.

    Raises:
        UserError: a predictor or a stop-gradient with small views, or a setting with a value that it has not.
        TypeError: an unknown option.
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
        small: int = 0,
        scale: float = 1.0,
        lambd_rule: str = "",
        **loss_options: Unpack[LossOptions],
    ) -> None:
        super().__init__()
        settings_of("BarlowTwins", loss_options)
        check_positive(scale=scale)
        check_counts(0, small=small)
        if small and (predictor is not None or stop_gradient):
            ablation = "a stop-gradient" if stop_gradient else "a predictor"
            raise UserError(
                f"Barlow Twins has {ablation} (Table 6) and {counted(small, 'small view')}, and each of the two large "
                "ones is compared with all others: there is no second branch",
                allowed="one of the two",
                next="--set views.small.count=0",
            )
        self.backbone = backbone
        self.projector = projector
        self.predictor = predictor
        self.stop_gradient = stop_gradient
        self.small = small
        self.scale = scale
        self.lambd_rule = lambd_rule
        self.loss_options = loss_options

    if TYPE_CHECKING:

        def __call__(self, views: Sequence[Tensor], targets: Targets | None = None) -> LossTerms: ...

    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Views `(N, C, H, W)` of the same images -> their embeddings `(N, D)`; a constant has no graph."""
        taken = 2 + self.small
        if len(views) != taken:
            raise UserError(f"Barlow Twins compares {taken} views of each image, got {len(views)}", allowed=f"{taken}")
        if self.predictor is None and not self.stop_gradient:
            return self.embed_each(self.project, views)
        z1 = self.projector(self.backbone(views[0]))
        if self.predictor is not None:
            z1 = self.predictor(z1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.stop_gradient):
            z2 = self.projector(self.backbone(views[1]))
        return [z1, z2]

    def compare(self, embeddings: Sequence[Tensor], targets: Targets) -> LossTerms:
        """Embeddings `(N, D)` of the views -> scaled loss, unscaled terms."""
        terms = multi_crop_loss(embeddings, shares=targets.shares, **self.loss_options)
        return terms._replace(loss=self.scale * terms.loss)

    @property
    def width(self) -> int | None:
        """Dimensions of the embeddings; None: somebody's projector has no linear layer that says them."""
        return next(
            (part.out_features for part in [*self.projector.modules()][::-1] if isinstance(part, nn.Linear)), None
        )

    def heads(self) -> dict[str, nn.Module]:
        """The projector, and the predictor where there is one."""
        return {"projector": self.projector, **({"predictor": self.predictor} if self.predictor is not None else {})}

    def describe(self, batch: int, ranks: int = 1) -> str:
        """The weight of the redundancy term, and the form that the loss takes at that batch."""
        form: str = self.loss_options.get("form", "auto")
        width = self.width
        if self.loss_options.get("criterion") == "cross-entropy":
            form = "primal"
        elif form == "auto":
            form = "either" if width is None else choose_form(batch, width, ranks, 2 + self.small)
        over = f" over {ranks} ranks" if ranks > 1 else ""
        small = f", 2 large and {counted(self.small, 'small view')}" if self.small else ""
        rule = f" ({self.lambd_rule})" if self.lambd_rule else ""
        lambd = f"lambd {self.loss_options.get('lambd', LAMBD):.4g}{rule}"
        of_width = "" if width is None else f" and width {width}"
        return f"{lambd}, {form} form at batch {batch}{over}{of_width}{small}"

    def project(self, images: Tensor) -> Tensor:
        """Images `(N, C, H, W)` -> the projector's embeddings `(N, D)`."""
        embedded: Tensor = self.projector(self.backbone(images))
        return embedded
