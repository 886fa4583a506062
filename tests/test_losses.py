"""Losses as modules are the functions, with their settings; Barlow Twins beside the formula in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from barlowctl import losses
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
    with pytest.raises(TypeError, match="unexpected keyword argument 'lamdb'"):
        losses.BarlowTwins(lamdb=0.1)  # type: ignore[call-arg]
    with pytest.raises(UserError, match="unknown form 'gramm', did you mean 'gram'"):
        losses.VICReg(form="gramm")(*embeddings(2))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="of 1 view"):
        losses.BarlowTwins()(embeddings(1)[0])
    assert repr(losses.BarlowTwins(lambd=0.1)).startswith("BarlowTwins(scale=1.0, lambd=0.1, form=auto, ")
    assert "lambd=0.0051" in repr(losses.BarlowTwins())
