"""The VICReg loss against an oracle written from the formula, in value and gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from barlowctl.errors import UserError
from barlowctl.objective.vicreg import vicreg_loss
from tests.oracles import vicreg as oracle
from tests.oracles.loss import numerical_gradient

SHAPES = [(5, 9), (7, 7), (14, 4), (2, 3), (6, 1)]
FORMS = ["primal", "gram", "auto"]


def embeddings(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Some dimensions spread more than 1, where the hinge is flat, and some less."""
    random = np.random.default_rng(n + d)
    z1 = random.normal(size=(n, d)) * random.uniform(0.2, 2.5, d) + random.normal(size=d)
    return z1, 0.8 * z1 + 0.3 * random.normal(size=(n, d))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_value_and_gradient_match_the_formula(n: int, d: int, form: str) -> None:
    z1, z2 = embeddings(n, d)
    expected = [oracle.loss(z1, z2), *oracle.terms(z1, z2)]
    a, b = (torch.tensor(z, requires_grad=True) for z in (z1, z2))
    terms = vicreg_loss(a, b, form=form)  # type: ignore[arg-type]
    np.testing.assert_allclose([t.item() for t in terms], expected, rtol=1e-10, atol=1e-12)
    terms.loss.backward()
    for tensor, expected_grad in (
        (a, numerical_gradient(lambda z: oracle.loss(z, z2), z1)),
        (b, numerical_gradient(lambda z: oracle.loss(z1, z), z2)),
    ):
        assert tensor.grad is not None
        np.testing.assert_allclose(
            tensor.grad.numpy(), expected_grad, atol=2e-7 * max(1.0, np.abs(expected_grad).max())
        )
    single = vicreg_loss(torch.tensor(z1, dtype=torch.float32), torch.tensor(z2, dtype=torch.float32), form=form)  # type: ignore[arg-type]
    assert single.loss.dtype == torch.float32
    np.testing.assert_allclose([t.item() for t in single], expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["primal", "gram"])
def test_gradient_reaches_through_mean_and_variance(form: str) -> None:
    a, b = (torch.tensor(z, requires_grad=True) for z in embeddings(6, 5))
    assert torch.autograd.gradcheck(lambda a, b: vicreg_loss(a, b, form=form).loss, (a, b))  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_weight_is_of_its_own_term(number: int) -> None:
    z1, z2 = embeddings(8, 4)
    weights = [0.0, 0.0, 0.0]
    weights[number] = 3.0
    terms = vicreg_loss(
        torch.tensor(z1), torch.tensor(z2), invariance=weights[0], variance=weights[1], covariance=weights[2]
    )
    assert terms.loss.item() == pytest.approx(3.0 * oracle.terms(z1, z2)[number], rel=1e-10)


def test_the_views_are_exchangeable_and_terms_carry_no_gradient() -> None:
    z1, z2 = (torch.tensor(z, requires_grad=True) for z in embeddings(9, 6))
    one, other = vicreg_loss(z1, z2), vicreg_loss(z2, z1)
    assert one.loss.item() == pytest.approx(other.loss.item(), rel=1e-12)
    assert not any(term.requires_grad for term in one[1:])


def test_a_collapsed_batch_is_finite_and_pays_the_whole_hinge() -> None:
    z = torch.full((6, 4), 2.0, requires_grad=True)
    terms = vicreg_loss(z, z)
    terms.loss.backward()
    assert terms.variance.item() == pytest.approx(1.0 - 0.01, rel=1e-5)  # sqrt(1e-4) is left of each dimension
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_autocast_does_not_reach_the_loss() -> None:
    z1, z2 = (torch.tensor(z, dtype=torch.float32) for z in embeddings(16, 8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = vicreg_loss(z1, z2)
    assert inside.loss.item() == vicreg_loss(z1, z2).loss.item()


def test_bad_input_is_named() -> None:
    with pytest.raises(UserError, match="at least 2 samples"):
        vicreg_loss(torch.randn(1, 4), torch.randn(1, 4))
    with pytest.raises(UserError, match="differ in shape"):
        vicreg_loss(torch.randn(4, 4), torch.randn(4, 5))
