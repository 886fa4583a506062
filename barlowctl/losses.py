"""Losses of embeddings as modules, for a training loop of one's own.

Each takes `(N, D)` embeddings, row b of all from the same image, and returns a named tuple of scalars: `loss`, which is
minimised, and terms to look at, which carry no gradient of their own. They have no parameters, compute in float32 under
autocast too, and standardise or normalise embeddings themselves. Methods that have more than a loss (a momentum
encoder, a queue, prototypes) are in `barlowctl.methods`, and the functions behind all of them in `barlowctl.objective`.

Within DistributedDataParallel each process has the loss of its own rows, and their gradients are averaged. With `ranks`
(see `barlowctl.distributed.joined`) it is the loss of the whole batch, as `barlowctl pretrain` has it.
"""

from __future__ import annotations

from inspect import signature
from typing import Literal, Unpack

from torch import Tensor, nn

from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError
from barlowctl.objective.barlow_twins import LossOptions, LossTerms, barlow_twins_loss, check_options
from barlowctl.objective.byol import ByolTerms, byol_loss
from barlowctl.objective.multi_crop import multi_crop_loss
from barlowctl.objective.simclr import TEMPERATURE, SimCLRTerms, nt_xent
from barlowctl.objective.simsiam import SimSiamTerms, simsiam_loss
from barlowctl.objective.vicreg import VICRegTerms, vicreg_loss

__all__ = ["BYOL", "BarlowTwins", "SimCLR", "SimSiam", "VICReg"]


class BarlowTwins(nn.Module):
    """Barlow Twins (Zbontar et al., ICML 2021, eq. 1) of two views; of more, of the two first ones with all.

    Args:
        scale: factor on the loss, not on the terms.
        options: lambd (0.0051), form ("auto", "primal", "gram"), terms ("both", "invariance", "redundancy"),
            normalization, criterion, temperature, ranks: see `barlowctl.objective.barlow_twins_loss`.

    Raises:
        UserError: a value that an option has not; in `forward`, shapes that differ or fewer than two samples.
        TypeError: an unknown option.
    """

    def __init__(self, *, scale: float = 1.0, **options: Unpack[LossOptions]) -> None:
        super().__init__()
        settings = signature(barlow_twins_loss).bind((), (), **options)
        settings.apply_defaults()
        checked = ("form", "terms", "normalization", "criterion", "temperature")
        check_options(**{name: settings.arguments[name] for name in checked}, width=2)
        self.scale, self.options = scale, options
        self.settings = {name: settings.arguments[name] for name in ("lambd", *checked)}

    def forward(self, *embeddings: Tensor) -> LossTerms:
        """Two or more `(N, D)`, the large views first -> scaled loss; invariance and redundancy, without lambd."""
        if len(embeddings) < 2:
            raise UserError(f"Barlow Twins of {len(embeddings)} view", allowed="embeddings of 2 views or more")
        terms = multi_crop_loss(embeddings, **self.options)
        return terms._replace(loss=self.scale * terms.loss)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in {"scale": self.scale, **self.settings}.items())


class VICReg(nn.Module):
    """VICReg (Bardes et al., ICLR 2022, eq. 6) of two views.

    Args:
        invariance, variance, covariance: weights of the three terms.
        form: "primal": D x D matrices; "gram": N x N ones; "auto": the cheaper. The same number.
        ranks: of the processes whose rows are one batch; alone: this one.
    """

    def __init__(
        self,
        *,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        form: Literal["auto", "primal", "gram"] = "auto",
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.form, self.ranks = form, ranks

    def forward(self, z1: Tensor, z2: Tensor) -> VICRegTerms:
        """Two `(N, D)`, N >= 2 -> the weighted loss, and the terms without weights."""
        return vicreg_loss(
            z1, z2, invariance=self.invariance, variance=self.variance, covariance=self.covariance, form=self.form,
            ranks=self.ranks,
        )  # fmt: skip


class SimCLR(nn.Module):
    """NT-Xent (Chen et al., ICML 2020, eq. 1) of two views.

    Args:
        temperature: tau, which divides the cosines.
        ranks: of the processes whose rows are one batch; alone: this one.
    """

    def __init__(self, *, temperature: float = TEMPERATURE, ranks: Ranks = ALONE) -> None:
        super().__init__()
        self.temperature, self.ranks = temperature, ranks

    def forward(self, z1: Tensor, z2: Tensor) -> SimCLRTerms:
        """Two `(N, D)`, N >= 2; brought to unit length in here."""
        return nt_xent(z1, z2, temperature=self.temperature, ranks=self.ranks)


class BYOL(nn.Module):
    """BYOL (Grill et al., NeurIPS 2020, eq. 2, made symmetric) of predictions and the target network's projections.

    Args:
        ranks: of the processes whose rows are one batch; alone: this one.
    """

    def __init__(self, *, ranks: Ranks = ALONE) -> None:
        super().__init__()
        self.ranks = ranks

    def forward(self, p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> ByolTerms:
        """Predictions p and target projections z of both views, all `(N, D)`; no gradient goes into z."""
        return byol_loss(p1, p2, z1, z2, ranks=self.ranks)


class SimSiam(nn.Module):
    """SimSiam (Chen and He, CVPR 2021, eq. 4) of predictions and projections.

    Args:
        stop_gradient: no gradient goes into the projections. Without it everything collapses.
        ranks: of the processes whose rows are one batch; alone: this one.
    """

    def __init__(self, *, stop_gradient: bool = True, ranks: Ranks = ALONE) -> None:
        super().__init__()
        self.stop_gradient, self.ranks = stop_gradient, ranks

    def forward(self, p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> SimSiamTerms:
        """Predictions p and projections z of both views, all `(N, D)`."""
        return simsiam_loss(p1, p2, z1, z2, stop_gradient=self.stop_gradient, ranks=self.ranks)
