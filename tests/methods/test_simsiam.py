"""SimSiam: views by themselves, a predictor at a constant rate, and the collapse that its ablations bring."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from barlowctl.errors import UserError
from barlowctl.methods.simsiam import SimSiam
from barlowctl.objective.simsiam import simsiam_loss
from barlowctl.train.optim import build_optimizer, learning_rates, set_learning_rates
from tests.methods.siamese_networks import Views, make, settings, simsiam, to_input


def views() -> list[Tensor]:
    return [to_input(view) for view in next(Views((8, 8)).epoch(0)).views]


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_views_go_through_the_network_one_at_a_time(stop_gradient: bool) -> None:
    """Value, gradients and running statistics are those of two calls; views in one batch give others."""
    ours, plain = (make("simsiam", stop_gradient=stop_gradient) for _ in range(2))
    assert isinstance(plain, SimSiam)
    assert plain.predictor is not None
    terms = ours(views())
    terms.loss.backward()
    z1, z2 = (plain.projector(plain.backbone(x)) for x in views())
    p1, p2 = plain.predictor(z1), plain.predictor(z2)
    if stop_gradient:
        z1, z2 = z1.detach(), z2.detach()
    expected = simsiam_loss(p1, p2, z1, z2, stop_gradient=False)
    expected.loss.backward()
    assert terms.loss.item() == expected.loss.item()
    for (name, p), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        assert p.grad is not None, name
        assert other.grad is not None, name
        torch.testing.assert_close(p.grad, other.grad, rtol=1e-10, atol=1e-14, msg=name)
    for buffer, other in zip(ours.buffers(), plain.buffers(), strict=True):
        assert torch.equal(buffer, other)
    x1, x2 = views()
    together = make("simsiam")
    assert isinstance(together, SimSiam)
    joint = together.project(torch.cat([x1, x2])).chunk(2)[0]
    assert not torch.allclose(joint, make("simsiam").project(x1))  # type: ignore[arg-type]


def test_the_predictors_rate_stays_and_norms_decay() -> None:
    """At the first step, half-way and at the last; without `exclude_biases` norms and biases decay as weights do."""
    ours = make("simsiam")
    fixed = [ours.heads()[name] for name in ours.fixed_rates]
    optimizer = build_optimizer(
        ours, "sgd", lr=0.05, lr_biases=0.05, weight_decay=1e-4, exclude_biases=False, fixed=fixed
    )
    predictor = {id(p) for p in ours.heads()["predictor"].parameters()}
    for step in (0, 5, 9):
        factor = settings().lr_factor(step)
        set_learning_rates(optimizer, factor)
        for group in optimizer.param_groups:
            members = {id(p) for p in group["params"]}
            assert members <= predictor or not members & predictor
            assert group["lr"] == pytest.approx(0.05 if members & predictor else 0.05 * factor)
            assert group["weight_decay"] == 1e-4
    assert set(learning_rates(optimizer, 0.5)) == {"weights", "biases", "weights-fixed", "biases-fixed"}
    assert make("simsiam", fixed_predictor_rate=False).fixed_rates == ()


def test_without_a_predictor_projections_are_compared() -> None:
    ours = make("simsiam")
    assert isinstance(ours, SimSiam)
    bare = SimSiam(ours.backbone, ours.projector, None)
    p1, p2, z1, z2 = bare.embeddings(views())
    assert p1 is z1
    assert p2 is z2
    assert list(bare.heads()) == ["projector"]
    assert bare.fixed_rates == ()


def test_without_stop_gradient_it_collapses_and_that_is_seen() -> None:
    """60 steps of gradient descent: the loss is at its minimum -1 and the spread at 0, and with it neither is.

    Without batch norm, which would keep the spread up either way, both have fallen: one of them to the end.
    """
    outcomes = {}
    for stop_gradient in (True, False):
        torch.manual_seed(0)
        method = simsiam(norm=False, stop_gradient=stop_gradient)
        optimizer = torch.optim.SGD(method.parameters(), lr=0.5, momentum=0.9)
        inputs = [view.float() for view in views()]
        for _ in range(60):
            optimizer.zero_grad()
            terms = method(inputs)
            terms.loss.backward()
            optimizer.step()
        outcomes[stop_gradient] = terms.spread.item(), terms.loss.item()
    assert outcomes[False][0] < 0.003
    assert outcomes[False][1] < -0.9999
    assert outcomes[True][0] > 0.02
    assert outcomes[True][1] > -0.999
    assert "collapsed" in (simsiam().alarm({"loss": -1.0, "spread": outcomes[False][0]}, 0.5) or "")
    assert simsiam().alarm({"loss": -0.9, "spread": 0.8}, 0.5) is None


def test_what_it_says_and_refuses() -> None:
    compared = "prediction of one view with the projection of the other"
    assert simsiam().describe(64) == f"{compared}, a constant, the predictor's learning rate stays at its peak"
    assert simsiam(stop_gradient=False, fixed_predictor_rate=False).describe(64) == compared
    with pytest.raises(UserError, match="2 views of each image, got 1"):
        simsiam()([torch.zeros(2, 1, 8, 8)])
