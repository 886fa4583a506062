"""The loss of Mixed Barlow Twins against the six matrices that it is defined by."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from barlowctl.errors import UserError
from barlowctl.objective import barlow_twins_loss
from barlowctl.objective.mixed import mixed_barlow_twins_loss
from tests.oracles import mixed as oracle
from tests.oracles.loss import numerical_gradient, standardized

FORMS = ["primal", "gram", "auto"]


def embeddings(n: int, d: int) -> list[np.ndarray]:
    random = np.random.default_rng(n * d)
    base = random.normal(size=(n, d))
    return [base * random.uniform(0.5, 2, d) + 0.5 * random.normal(size=(n, d)) for _ in range(3)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "d"), [(6, 9), (11, 5)])
def test_value_and_gradient_match_the_formula(n: int, d: int, form: str) -> None:
    arrays, pi, alpha = embeddings(n, d), np.random.default_rng(1).permutation(n), 0.3

    def formula(z: list[np.ndarray]) -> float:
        return oracle.loss(*z, alpha, pi, lambd=0.02, lambd_reg=1.7)

    tensors = [torch.tensor(z, requires_grad=True) for z in arrays]
    terms = mixed_barlow_twins_loss(
        *tensors,
        alpha=torch.tensor(alpha, dtype=torch.float64),
        permutation=torch.tensor(pi),
        lambd=0.02,
        lambd_reg=1.7,
        form=form,  # type: ignore[arg-type]
    )
    assert terms.loss.item() == pytest.approx(formula(arrays), rel=1e-10)
    assert terms.mixing.item() == pytest.approx(oracle.mixing(*arrays, alpha, pi), rel=1e-10)
    terms.loss.backward()
    for number, tensor in enumerate(tensors):

        def value(z: np.ndarray, number: int = number) -> float:
            return formula([z if v == number else other for v, other in enumerate(arrays)])

        gradient = numerical_gradient(value, arrays[number])
        assert tensor.grad is not None
        np.testing.assert_allclose(tensor.grad.numpy(), gradient, atol=1e-7 * max(1.0, np.abs(gradient).max()))


@pytest.mark.parametrize("form", ["primal", "gram"])
def test_gradcheck(form: str) -> None:
    tensors = tuple(torch.tensor(z, requires_grad=True) for z in embeddings(5, 6))
    options = {"alpha": torch.tensor(0.6, dtype=torch.float64), "permutation": torch.tensor([2, 0, 1, 4, 3])}
    assert torch.autograd.gradcheck(
        lambda *z: mixed_barlow_twins_loss(*z, lambd=0.5, form=form, **options).loss,  # type: ignore[arg-type]
        tensors,
    )


@pytest.mark.parametrize("form", ["primal", "gram"])
def test_nothing_mixed_in_asks_for_nothing(form: str) -> None:
    """alpha 1 and z_m = z_1: both halves of the term are 0. With z_2ᵀ z_2 as the second target, as in the authors'
    `main_imagenet.py`, the second would not be."""
    z1, z2 = (torch.tensor(z) for z in embeddings(8, 5)[:2])
    terms = mixed_barlow_twins_loss(
        z1, z2, z1, alpha=torch.tensor(1.0), permutation=torch.arange(8).flip(0), lambd_reg=5.0, form=form
    )  # type: ignore[arg-type]
    assert terms.mixing.item() == pytest.approx(0.0, abs=1e-20)
    plain = barlow_twins_loss(z1, z2, form=form)  # type: ignore[arg-type]
    assert [t.item() for t in terms[:3]] == [t.item() for t in plain]
    a, b = standardized(z1.numpy()), standardized(z2.numpy())
    assert np.abs(a.T @ b - b.T @ b).max() / 8 > 0.05


def test_an_unmixed_weight_of_zero_is_barlow_twins() -> None:
    z1, z2, z3 = (torch.tensor(z) for z in embeddings(7, 9))
    terms = mixed_barlow_twins_loss(
        z1, z2, z3, alpha=torch.tensor(0.4), permutation=torch.arange(7), lambd=0.1, lambd_reg=0.0
    )
    assert terms.loss.item() == barlow_twins_loss(z1, z2, lambd=0.1).loss.item()


def test_bad_input_is_named() -> None:
    with pytest.raises(UserError, match=r"\(4, 3\) and \(4, 5\)"):
        mixed_barlow_twins_loss(
            torch.randn(4, 3),
            torch.randn(4, 3),
            torch.randn(4, 5),
            alpha=torch.tensor(0.5),
            permutation=torch.arange(4),
        )
