"""VICReg as a method."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from barlowctl.errors import UserError
from barlowctl.eval.diagnostics import feature_spread
from barlowctl.methods import VICReg
from barlowctl.objective.vicreg import vicreg_loss
from tests.methods.test_barlow_twins import networks, views


def test_each_view_goes_through_both_networks_and_the_loss_is_scaled() -> None:
    backbone, projector, _ = networks()
    x1, x2 = views()
    expected = vicreg_loss(projector(backbone(x1)), projector(backbone(x2)), invariance=10.0)
    backbone, projector, _ = networks()
    terms = VICReg(backbone, projector, invariance=10.0, scale=0.1)([x1, x2])
    assert terms.loss.item() == pytest.approx(0.1 * expected.loss.item(), rel=1e-12)
    assert [t.item() for t in terms[1:]] == [t.item() for t in expected[1:]]
    assert list(VICReg.terms) == list(terms._fields[1:])


def test_two_views_are_needed() -> None:
    backbone, projector, _ = networks()
    with pytest.raises(UserError, match="2 views of each image, got 1"):
        VICReg(backbone, projector)(views()[:1])


@pytest.mark.parametrize("variance", [0.0, 25.0])
def test_a_collapse_to_a_point_is_said(variance: float) -> None:
    """Trained without the term that prevents it. Directions around zero still differ: their spread says nothing."""
    torch.manual_seed(0)
    backbone, projector = nn.Sequential(nn.Flatten(), nn.Linear(36, 24, bias=False)), nn.Linear(24, 8, bias=False)
    ours = VICReg(backbone, projector, variance=variance, covariance=0.0)
    optimizer = torch.optim.Adam(ours.parameters(), lr=0.02)
    for _ in range(200):
        images = torch.randn(32, 1, 6, 6)
        terms = ours([images + 0.5 * torch.randn(32, 1, 6, 6) for _ in range(2)])
        optimizer.zero_grad()
        terms.loss.backward()
        optimizer.step()
    alarm = ours.alarm({"loss": terms.loss.item(), "variance": terms.variance.item()}, 0.5)
    assert feature_spread(ours.project(images).detach()) > 0.5
    if variance:
        assert alarm is None
    else:
        assert alarm is not None
        assert alarm.startswith("the embeddings have collapsed: their dimensions hardly vary (variance 0.9")
