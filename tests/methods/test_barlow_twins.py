"""The method: both views through both networks, and the asymmetries of Table 6."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.methods import BarlowTwins
from barlowctl.objective import LossTerms, barlow_twins_loss
from barlowctl.runs.history import TERMS_OF_BEFORE


def networks() -> tuple[nn.Module, nn.Module, nn.Module]:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 10))
    projector = nn.Sequential(nn.Linear(10, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 7))
    predictor = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 7))
    return backbone.double(), projector.double(), predictor.double()


def views() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 1, 6, 6, generator=generator, dtype=torch.float64) for _ in range(2)]


def gradients(module: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in module.parameters() if p.grad is not None]


def by_hand(*, predictor_used: bool, stop_gradient: bool, **options: Any) -> tuple[LossTerms, list[Tensor], nn.Module]:
    backbone, projector, predictor = networks()
    x1, x2 = views()
    z1, z2 = projector(backbone(x1)), projector(backbone(x2))
    z1 = predictor(z1) if predictor_used else z1
    z2 = z2.detach() if stop_gradient else z2
    result = barlow_twins_loss(z1, z2, **options)
    result.loss.backward()
    return result, gradients(backbone) + gradients(projector) + gradients(predictor), backbone


@pytest.mark.parametrize("predictor_used", [False, True])
@pytest.mark.parametrize("stop_gradient", [False, True])
def test_table_6(predictor_used: bool, stop_gradient: bool) -> None:
    expected, expected_grads, expected_backbone = by_hand(
        predictor_used=predictor_used, stop_gradient=stop_gradient, lambd=0.01
    )
    backbone, projector, predictor = networks()
    method = BarlowTwins(
        backbone,
        projector,
        predictor=predictor if predictor_used else None,
        stop_gradient=stop_gradient,
        lambd=0.01,
    )
    result = method(views())
    result.loss.backward()
    assert [t.item() for t in result] == [t.item() for t in expected]
    for ours, theirs in zip(gradients(method), expected_grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    for ours, theirs in zip(backbone.buffers(), expected_backbone.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)  # running statistics saw both views, in order


def test_the_four_arms_of_table_6_differ() -> None:
    norms = set()
    for predictor_used in (False, True):
        for stop_gradient in (False, True):
            backbone, projector, predictor = networks()
            method = BarlowTwins(
                backbone, projector, predictor=predictor if predictor_used else None, stop_gradient=stop_gradient
            )
            method(views()).loss.backward()
            norms.add(round(sum(gradient.norm().item() for gradient in gradients(method)), 9))
    assert len(norms) == 4


def test_runs_that_noted_no_terms_have_those_of_barlow_twins() -> None:
    assert BarlowTwins.terms == TERMS_OF_BEFORE


def test_scale_is_on_the_loss_alone() -> None:
    backbone, projector, _ = networks()
    plain = BarlowTwins(backbone, projector)(views())
    scaled = BarlowTwins(backbone, projector, scale=0.1)(views())
    assert scaled.loss.item() == pytest.approx(0.1 * plain.loss.item(), rel=1e-12)
    assert scaled.invariance.item() == plain.invariance.item()
    assert scaled.redundancy.item() == plain.redundancy.item()


def test_loss_options_reach_the_loss() -> None:
    backbone, projector, _ = networks()
    x1, x2 = views()
    z1, z2 = projector(backbone(x1)), projector(backbone(x2))
    variants: list[dict[str, Any]] = [
        {"criterion": "cross-entropy", "temperature": 0.5},
        {"terms": "invariance"},
    ]
    for options in variants:
        ours = BarlowTwins(backbone, projector, **options)([x1, x2])
        theirs = barlow_twins_loss(z1, z2, **options)
        assert ours.loss.item() == theirs.loss.item()


def test_embed_gives_the_features_of_the_backbone() -> None:
    backbone, projector, _ = networks()
    method = BarlowTwins(backbone, projector).eval()
    image = views()[0]
    torch.testing.assert_close(method.embed(image), backbone(image), rtol=0, atol=0)
    before = [p.clone() for p in method.parameters()]
    method.after_step(torch.tensor(0.5))
    assert all(torch.equal(a, b) for a, b in zip(before, method.parameters(), strict=True))


def test_small_views_are_compared_with_both_large_ones() -> None:
    backbone, projector, _ = networks()
    given = [*views(), torch.flip(views()[0], [3]), torch.flip(views()[1], [2])]
    z = [projector(backbone(view)) for view in given]
    expected = [barlow_twins_loss(z[g], z[v], lambd=0.02).loss.item() for g in (0, 1) for v in range(4) if v != g]
    backbone, projector, _ = networks()
    terms = BarlowTwins(backbone, projector, small=2, lambd=0.02)(given)
    assert terms.loss.item() == pytest.approx(sum(expected) / 6, rel=1e-10)


@pytest.mark.parametrize(
    "options", [{"normalization": "feature"}, {"terms": "redundancy"}, {"criterion": "cross-entropy"}]
)
def test_table_5_with_small_views(options: dict[str, Any]) -> None:
    backbone, projector, _ = networks()
    given = [*views(), torch.flip(views()[0], [3])]
    z = [projector(backbone(view)) for view in given]
    terms = BarlowTwins(backbone, projector, small=1, **options)(given)
    expected = [barlow_twins_loss(z[g], z[v], **options).loss.item() for g, v in ((0, 1), (0, 2), (1, 0), (1, 2))]
    assert terms.loss.item() == pytest.approx(sum(expected) / 4, rel=1e-10)


def test_table_6_has_no_place_for_small_views() -> None:
    backbone, projector, predictor = networks()
    for options in ({"stop_gradient": True}, {"predictor": predictor}):
        with pytest.raises(UserError, match="there is no second branch"):
            BarlowTwins(backbone, projector, small=2, **options)  # type: ignore[arg-type]


def test_the_rule_that_lambd_is_from_is_said() -> None:
    backbone, projector, _ = networks()
    method = BarlowTwins(backbone, projector, lambd=0.1, lambd_rule="auto: of the width")
    assert method.describe(8).startswith("lambd 0.1 (auto: of the width), ")
    assert BarlowTwins(backbone, projector).describe(8).startswith("lambd 0.0051, ")


def test_a_projector_of_somebodys_without_a_linear_layer_has_a_description() -> None:
    method = BarlowTwins(nn.Flatten(), nn.Identity())
    assert method.width is None
    assert method.describe(8) == "lambd 0.0051, either form at batch 8"


def test_two_views_are_needed() -> None:
    backbone, projector, _ = networks()
    with pytest.raises(UserError, match="2 views of each image, got 3"):
        BarlowTwins(backbone, projector)([*views(), views()[0]])
