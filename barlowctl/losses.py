"""Losses of embeddings as modules, for a training loop of one's own.

Each takes `(N, D)` embeddings, row b of all from the same image, and returns a named tuple of scalars: `loss`, which is
minimised, and terms to look at, which carry no gradient of their own. They have no parameters, compute in float32 under
autocast too, and standardise or normalise embeddings themselves. Methods that have more than a loss (a momentum
encoder, a queue, prototypes) are in `barlowctl.methods`, and the functions behind all of them in `barlowctl.objective`.

Within DistributedDataParallel each process has the loss of its own rows, and their gradients are averaged. With `ranks`
(see `barlowctl.distributed.joined`) it is the loss of the whole batch, as `barlowctl pretrain` has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack, get_args

from torch import Tensor, nn

from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError, explained, kind_of
from barlowctl.objective.barlow_twins import (
    Form,
    LossOptions,
    LossTerms,
    check_option,
    settings_of,
)
from barlowctl.objective.byol import ByolTerms, byol_loss
from barlowctl.objective.multi_crop import multi_crop_loss
from barlowctl.objective.settings import check_positive, check_weights
from barlowctl.objective.simclr import TEMPERATURE, SimCLRTerms, nt_xent
from barlowctl.objective.simsiam import SimSiamTerms, simsiam_loss
from barlowctl.objective.vicreg import VICRegTerms, vicreg_loss

__all__ = ["BYOL", "BarlowTwins", "SimCLR", "SimSiam", "VICReg"]


class _Loss(nn.Module):
    """What the losses share: settings, which are attributes and printed, and the ranks whose rows are one batch."""

    def __init__(self, ranks: Ranks, **settings: Any) -> None:
        super().__init__()
        self.ranks = ranks
        self._names = tuple(settings)
        for name, value in settings.items():
            setattr(self, name, value)

    @property
    def settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._names}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.settings.items())


class BarlowTwins(_Loss):
    """Barlow Twins (Zbontar et al., ICML 2021, eq. 1) of two views; of more, of the two first ones with all.

    Args:
        scale: factor on the loss, not on the terms.
        options: lambd (0.0051), form ("auto", "primal", "gram"), terms ("both", "invariance", "redundancy"),
            normalization, criterion, temperature, ranks: see `barlowctl.objective.barlow_twins_loss`.

    Raises:
        UserError: a value that an option has not; in `forward`, shapes or devices that differ, or fewer than two
            samples.
        TypeError: an unknown option.
    """

    @explained
    def __init__(self, *, scale: float = 1.0, **options: Unpack[LossOptions]) -> None:
        settings = settings_of("BarlowTwins", options)
        check_positive(scale=scale)
        super().__init__(settings.pop("ranks"), scale=scale, **settings)

    @explained
    def forward(self, *embeddings: Tensor) -> LossTerms:
        """Two or more `(N, D)`, the large views first -> scaled loss; invariance and redundancy, without lambd."""
        _check_tensors(embeddings)
        if len(embeddings) < 2:
            raise UserError(f"Barlow Twins of {len(embeddings)} view", allowed="embeddings of 2 views or more")
        options = self.settings
        scale = options.pop("scale")
        terms = multi_crop_loss(embeddings, ranks=self.ranks, **options)
        return terms._replace(loss=scale * terms.loss)

    if TYPE_CHECKING:

        def __call__(self, *embeddings: Tensor) -> LossTerms: ...


class VICReg(_Loss):
    """VICReg (Bardes et al., ICLR 2022, eq. 6) of two views.

    Args:
        invariance, variance, covariance: weights of the three terms.
        form: "primal": D x D matrices; "gram": N x N ones; "auto": the cheaper. The same number.
        ranks: of the processes whose rows are one batch; alone: this one.
    """

    @explained
    def __init__(
        self,
        *,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        form: Form = "auto",
        ranks: Ranks = ALONE,
    ) -> None:
        weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
        check_weights(**weights)
        check_option("form", form, get_args(Form))
        super().__init__(ranks, **weights, form=form)

    @explained
    def forward(self, z1: Tensor, z2: Tensor) -> VICRegTerms:
        """Two `(N, D)`, N >= 2 -> the weighted loss, and the terms without weights."""
        _check_tensors((z1, z2))
        return vicreg_loss(z1, z2, ranks=self.ranks, **self.settings)

    if TYPE_CHECKING:

        def __call__(self, z1: Tensor, z2: Tensor) -> VICRegTerms: ...


class SimCLR(_Loss):
    """NT-Xent (Chen et al., ICML 2020, eq. 1) of two views.

    Args:
        temperature: tau, which divides the cosines.
        ranks: of the processes whose rows are one batch; alone: this one.
    """

    @explained
    def __init__(self, *, temperature: float = TEMPERATURE, ranks: Ranks = ALONE) -> None:
        check_positive(temperature=temperature)
        super().__init__(ranks, temperature=temperature)

    @explained
    def forward(self, z1: Tensor, z2: Tensor) -> SimCLRTerms:
        """Two `(N, D)`, N >= 2; brought to unit length in here."""
        _check_tensors((z1, z2))
        return nt_xent(z1, z2, ranks=self.ranks, **self.settings)

    if TYPE_CHECKING:

        def __call__(self, z1: Tensor, z2: Tensor) -> SimCLRTerms: ...


class BYOL(_Loss):
    """BYOL (Grill et al., NeurIPS 2020, eq. 2, made symmetric) of predictions and the target network's projections.

    Args:
        ranks: of the processes whose rows are one batch; alone: this one.
    """

    def __init__(self, *, ranks: Ranks = ALONE) -> None:
        super().__init__(ranks)

    @explained
    def forward(self, p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> ByolTerms:
        """Predictions p and target projections z of both views, all `(N, D)`; no gradient goes into z."""
        _check_tensors((p1, p2, z1, z2))
        return byol_loss(p1, p2, z1, z2, ranks=self.ranks)

    if TYPE_CHECKING:

        def __call__(self, p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> ByolTerms: ...


class SimSiam(_Loss):
    """SimSiam (Chen and He, CVPR 2021, eq. 4) of predictions and projections.

    Args:
        stop_gradient: no gradient goes into the projections. Without it everything collapses.
        ranks: of the processes whose rows are one batch; alone: this one.
    """

    def __init__(self, *, stop_gradient: bool = True, ranks: Ranks = ALONE) -> None:
        super().__init__(ranks, stop_gradient=stop_gradient)

    @explained
    def forward(self, p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> SimSiamTerms:
        """Predictions p and projections z of both views, all `(N, D)`."""
        _check_tensors((p1, p2, z1, z2))
        return simsiam_loss(p1, p2, z1, z2, ranks=self.ranks, **self.settings)

    if TYPE_CHECKING:

        def __call__(self, p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> SimSiamTerms: ...


def _check_tensors(embeddings: tuple[Any, ...]) -> None:
    """Refuse embeddings that are arrays, lists or tuples.

    Raises:
        UserError: with what was given.
    """
    for value in embeddings:
        if not isinstance(value, Tensor):
            raise UserError(
                f"an argument is {kind_of(value)}, no tensor",
                allowed="tensors (N, D) of floating point, one argument for each",
                next="torch.as_tensor(embeddings) of an array",
            )
