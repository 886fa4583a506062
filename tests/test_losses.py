"""Losses as modules are the functions, with their settings; Barlow Twins beside the formula in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from barlowctl import losses, methods
from barlowctl.errors import UserError
from barlowctl.objective import byol, multi_crop, simclr, simsiam, vicreg


def embeddings(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(12, 7, generator=generator) for _ in range(count)]


def test_barlow_twins_is_the_papers_formula() -> None:
    z1, z2 = (z.double().numpy() for z in embeddings(2))
    a, b = ((z - z.mean(0)) / z.std(0) for z in (z1, z2))
    c = a.T @ b / len(a)
    invariance = ((1 - np.diag(c)) ** 2).sum()
    redundancy = (c**2).sum() - (np.diag(c) ** 2).sum()
    terms = losses.BarlowTwins(lambd=0.02, scale=0.5)(*embeddings(2))
    assert terms.invariance.item() == pytest.approx(invariance, rel=1e-4)
    assert terms.redundancy.item() == pytest.approx(redundancy, rel=1e-4)
    assert terms.loss.item() == pytest.approx(0.5 * (invariance + 0.02 * redundancy), rel=1e-4)


def test_modules_are_the_functions_with_their_settings() -> None:
    z1, z2, p1, p2 = embeddings(4)
    pairs = [
        (losses.BarlowTwins(form="primal")(z1, z2, p1), multi_crop.multi_crop_loss([z1, z2, p1], form="primal")),
        (losses.VICReg(variance=3.0)(z1, z2), vicreg.vicreg_loss(z1, z2, variance=3.0)),
        (losses.SimCLR(temperature=0.3)(z1, z2), simclr.nt_xent(z1, z2, temperature=0.3)),
        (losses.BYOL()(p1, p2, z1, z2), byol.byol_loss(p1, p2, z1, z2)),
        (
            losses.SimSiam(stop_gradient=False)(p1, p2, z1, z2),
            simsiam.simsiam_loss(p1, p2, z1, z2, stop_gradient=False),
        ),
    ]
    for of_module, of_function in pairs:
        assert of_module == of_function
    assert losses.VICReg()(z1, z2).loss != losses.VICReg(covariance=2.0)(z1, z2).loss


def test_wrong_settings_and_too_few_views_are_refused() -> None:
    with pytest.raises(UserError, match="unknown form 'gramm', did you mean 'gram'"):
        losses.BarlowTwins(form="gramm")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="needs the primal form"):
        losses.BarlowTwins(criterion="cross-entropy", form="gram")
    with pytest.raises(UserError, match="unknown form 'gramm', did you mean 'gram'"):
        losses.VICReg(form="gramm")(*embeddings(2))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="of 1 view"):
        losses.BarlowTwins()(embeddings(1)[0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: losses.BarlowTwins(lambd="x"), "lambd is 'x', a str"),
        (lambda: losses.BarlowTwins(scale=None), "scale is None, a NoneType"),
        (lambda: losses.VICReg(covariance=True), "covariance is True, a bool"),
        (lambda: losses.SimCLR(temperature=[0.1]), r"temperature is \[0.1\], a list"),
        (lambda: losses.VICReg(form="dual"), "unknown form 'dual'"),
        (lambda: losses.BarlowTwins()(np.zeros((4, 2)), np.zeros((4, 2))), "an argument is an ndarray, no tensor"),
        (lambda: losses.SimSiam()([1.0], [1.0], [1.0], [1.0]), "an argument is a list, no tensor"),
        (lambda: losses.BarlowTwins(lambd=-0.1), "^lambd is -0.1\n"),
        (lambda: losses.BarlowTwins(scale=0), "^scale is 0\n"),
        (lambda: losses.BarlowTwins(temperature=0), "^temperature is 0\n"),
        (lambda: losses.VICReg(variance=float("nan")), "^variance is nan\n"),
        (lambda: losses.SimCLR(temperature=-1), "^temperature is -1\n"),
    ],
)
def test_what_is_of_the_wrong_kind_is_refused_with_what_is_allowed(make: Callable[[], object], words: str) -> None:
    with pytest.raises(UserError, match=words) as refused:
        make()
    assert refused.value.__notes__[0].startswith("allowed: ")


def test_an_unknown_option_is_answered_with_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'lamdb', did you mean 'lambd'\?"):
        losses.BarlowTwins(lamdb=0.1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'lamdb', did you mean 'lambd'\?"):
        methods.BarlowTwins(torch.nn.Flatten(), torch.nn.Linear(7, 7), lamdb=0.1)  # type: ignore[call-arg]


def test_every_loss_prints_its_settings() -> None:
    assert repr(losses.BarlowTwins(lambd=0.1)).startswith("BarlowTwins(scale=1.0, lambd=0.1, form=auto, ")
    assert "lambd=0.0051" in repr(losses.BarlowTwins())
    assert repr(losses.VICReg(variance=3)) == "VICReg(invariance=25.0, variance=3, covariance=1.0, form=auto)"
    assert repr(losses.SimCLR()) == "SimCLR(temperature=0.1)"
    assert repr(losses.SimSiam()) == "SimSiam(stop_gradient=True)"


def test_a_setting_that_is_changed_later_is_used() -> None:
    z1, z2 = embeddings(2)
    loss = losses.BarlowTwins()
    loss.lambd = 0.5
    assert loss(z1, z2).loss == losses.BarlowTwins(lambd=0.5)(z1, z2).loss


@pytest.mark.parametrize(
    "loss", [losses.BarlowTwins(), losses.VICReg(), losses.SimCLR(), losses.BYOL(), losses.SimSiam()], ids=repr
)
def test_embeddings_on_two_devices_are_refused(loss: torch.nn.Module) -> None:
    """A kernel that reads the memory of one device as another's would give any number."""
    count = 4 if isinstance(loss, losses.BYOL | losses.SimSiam) else 2
    *here, there = embeddings(count)
    with pytest.raises(UserError, match=r"^the embeddings are on cpu and meta\n") as refused:
        loss(*here, there.to("meta"))
    assert refused.value.__notes__[0].startswith("allowed: one device for all: embeddings.to('cpu')")
