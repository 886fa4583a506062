"""VICReg as a method."""

from __future__ import annotations

import pytest

from barlowctl.errors import UserError
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
