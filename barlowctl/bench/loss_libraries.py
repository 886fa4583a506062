"""The losses of lightly and solo-learn, called as their own training code calls them.

Where that code halves a sum or leaves a factor out, `loss_contests` says by what their value becomes ours.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from barlowctl.bench import loss_formulas as formulas

Loss = Callable[..., Tensor]
PACKAGES = {"lightly": "lightly", "solo-learn": "solo"}


def one_file(package: str, file: str) -> Any:
    """A module of an installed package without the rest of it, which imports a training stack that may be broken."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:  # a folder of that name that is no package has no origin
        raise ModuleNotFoundError(f"no package '{package}' is installed", name=package)
    own = importlib.util.spec_from_file_location(f"{package}_alone", Path(spec.origin).parent / file)
    assert own is not None
    assert own.loader is not None
    module = importlib.util.module_from_spec(own)
    own.loader.exec_module(module)
    return module


# ---- lightly: its documentation's example of each method -----------------------------------------------------


def lightly_barlow_twins() -> Loss:
    """`BarlowTwinsLoss`."""
    from lightly.loss import BarlowTwinsLoss

    criterion: Loss = BarlowTwinsLoss(lambda_param=formulas.LAMBD)
    return criterion


def lightly_vicreg() -> Loss:
    """`VICRegLoss`."""
    from lightly.loss import VICRegLoss

    criterion: Loss = VICRegLoss()
    return criterion


def lightly_simclr() -> Loss:
    """`NTXentLoss`, at the paper's temperature: its own is 0.5."""
    from lightly.loss import NTXentLoss

    criterion: Loss = NTXentLoss(temperature=formulas.SIMCLR_TEMPERATURE)
    return criterion


def lightly_moco(temperature: float) -> Loss:
    """`NTXentLoss` with a memory bank, which begins as the queue that the first call of a size gives."""
    from lightly.loss import NTXentLoss

    made: dict[tuple[int, ...], Any] = {}

    def loss(q: Tensor, k: Tensor, queue: Tensor) -> Tensor:
        size = tuple(queue.shape)
        if size not in made:
            made[size] = NTXentLoss(temperature=temperature, memory_bank_size=size).to(queue.device)
            made[size].memory_bank.bank = queue.clone()
        value: Tensor = made[size](q, k)
        return value

    return loss


def lightly_cosines() -> Loss:
    """Half of `NegativeCosineSimilarity` of both orders: its examples of BYOL and of SimSiam."""
    from lightly.loss import NegativeCosineSimilarity

    criterion = NegativeCosineSimilarity()

    def loss(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
        value: Tensor = 0.5 * (criterion(p1, z2) + criterion(p2, z1))
        return value

    return loss


def lightly_swav() -> Loss:
    """`SwaVLoss` of two large views."""
    from lightly.loss import SwaVLoss

    criterion = SwaVLoss(
        temperature=formulas.SWAV_TEMPERATURE,
        sinkhorn_iterations=formulas.ITERATIONS,
        sinkhorn_epsilon=formulas.EPSILON,
    )

    def loss(scores1: Tensor, scores2: Tensor) -> Tensor:
        value: Tensor = criterion([scores1, scores2], [])
        return value.squeeze()  # it has one element

    return loss


# ---- solo-learn: the function of each loss, as its method's training step calls it ------------------------------


def solo_barlow_twins() -> Loss:
    """`barlow_loss_func`, its factor left out."""
    function = one_file("solo", "losses/barlow.py").barlow_loss_func
    return lambda z1, z2: function(z1, z2, lamb=formulas.LAMBD, scale_loss=1.0)


def solo_vicreg() -> Loss:
    """`vicreg_loss_func`, whose variance term lacks the authors' factor of a half: its weight has it."""
    function = one_file("solo", "losses/vicreg.py").vicreg_loss_func
    return lambda z1, z2: function(z1, z2, sim_loss_weight=25.0, var_loss_weight=12.5, cov_loss_weight=1.0)


def solo_simclr() -> Loss:
    """`simclr_loss_func`: of two views, or, in later versions, of their rows and the images that these are of."""
    function = one_file("solo", "losses/simclr.py").simclr_loss_func
    if "indexes" not in inspect.signature(function).parameters:
        return lambda z1, z2: function(z1, z2, temperature=formulas.SIMCLR_TEMPERATURE)

    def loss(z1: Tensor, z2: Tensor) -> Tensor:
        indexes = torch.arange(len(z1), device=z1.device).repeat(2)
        value: Tensor = function(torch.cat([z1, z2]), indexes=indexes, temperature=formulas.SIMCLR_TEMPERATURE)
        return value

    return loss


def solo_moco(temperature: float) -> Loss:
    """`moco_loss_func`, in later versions `mocov2plus_loss_func`, of rows of unit length; its queue is `(D, K)`."""
    module = one_file("solo", "losses/moco.py")
    own = inspect.getmembers(module, inspect.isfunction)
    function = next(value for name, value in own if name in ("moco_loss_func", "mocov2plus_loss_func"))

    def loss(q: Tensor, k: Tensor, queue: Tensor) -> Tensor:
        q, k = functional.normalize(q, dim=1), functional.normalize(k, dim=1)
        value: Tensor = function(q, k, queue.T, temperature)
        return value

    return loss


def solo_byol() -> Loss:
    """`byol_loss_func` of both orders, added up."""
    function = one_file("solo", "losses/byol.py").byol_loss_func
    return lambda p1, p2, z1, z2: function(p1, z2) + function(p2, z1)


def solo_simsiam() -> Loss:
    """Half of `simsiam_loss_func` of each order."""
    function = one_file("solo", "losses/simsiam.py").simsiam_loss_func
    return lambda p1, p2, z1, z2: function(p1, z2) / 2 + function(p2, z1) / 2


def solo_swav() -> Loss:
    """`swav_loss_func` with the codes of its `SinkhornKnopp`."""
    function = one_file("solo", "losses/swav.py").swav_loss_func
    sinkhorn = one_file("solo", "utils/sinkhorn_knopp.py").SinkhornKnopp(formulas.ITERATIONS, formulas.EPSILON)

    def loss(scores1: Tensor, scores2: Tensor) -> Tensor:
        codes = [sinkhorn(scores.detach()) for scores in (scores1, scores2)]
        value: Tensor = function([scores1, scores2], codes, temperature=formulas.SWAV_TEMPERATURE)
        return value

    return loss
