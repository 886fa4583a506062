"""SimCLR as a method: one batch of both views, the scale of the authors' loss, steps in two passes, resuming."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.methods import SimCLR
from barlowctl.objective.simclr import nt_xent


def make(**options: float) -> SimCLR:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 10))
    projector = nn.Sequential(nn.Linear(10, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 7))
    return SimCLR(backbone, projector, **options).double()


def views(rows: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(rows, 1, 6, 6, generator=generator, dtype=torch.float64) + view for view in range(2)]


def test_both_views_are_one_batch_to_batch_norm() -> None:
    """As in the authors' code; a call for each view would give other statistics, and others to keep."""
    method, other = make(), make()
    x1, x2 = views()
    z1, z2 = method.embeddings([x1, x2])
    together = other.project(torch.cat([x1, x2]))
    torch.testing.assert_close(torch.cat([z1, z2]), together, rtol=0, atol=0)
    for ours, theirs in zip(method.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    apart = make()
    assert (apart.project(x1) - z1).abs().max() > 1e-3


def test_the_loss_is_nt_xent_with_its_temperature_and_every_weight_has_a_gradient() -> None:
    method = make(temperature=0.3)
    terms = method(views())
    z1, z2 = make().embeddings(views())
    assert terms.loss.item() == nt_xent(z1, z2, temperature=0.3).loss.item()
    terms.loss.backward()
    assert all(p.grad is not None for p in method.parameters())
    assert terms._asdict().keys() - {"loss"} == method.terms.keys()


def test_scale_is_on_the_loss_alone() -> None:
    plain, scaled = make()(views()), make(scale=2.0)(views())
    assert scaled.loss.item() == pytest.approx(2 * plain.loss.item(), rel=1e-12)
    assert scaled[1:] == plain[1:]


def test_it_says_what_it_compares() -> None:
    assert make(temperature=0.5).describe(256) == "NT-Xent, temperature 0.5, 510 negatives of each view"
    assert "over 4 ranks" in make().describe(256, 4)
    assert list(make().heads()) == ["projector"]
    with pytest.raises(UserError, match="2 views"):
        make()(views()[:1])
