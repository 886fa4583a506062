"""Barlow Twins of more than two views against the double sum it is defined by; of two views it is Barlow Twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from barlowctl.errors import UserError
from barlowctl.objective import barlow_twins_loss, correlation
from barlowctl.objective.barlow_twins import choose_form, form_costs
from barlowctl.objective.multi_crop import comparisons, multi_crop_loss
from tests.oracles import multi_crop as oracle
from tests.oracles.loss import numerical_gradient


def embeddings(views: int, n: int, d: int) -> list[np.ndarray]:
    random = np.random.default_rng(views + n + d)
    base = random.normal(size=(n, d))
    return [base * random.uniform(0.5, 2, d) + 0.6 * random.normal(size=(n, d)) + v for v in range(views)]


VARIANTS: list[dict[str, Any]] = [
    {},
    {"normalization": "feature"},
    {"normalization": "none"},
    {"terms": "invariance"},
    {"terms": "redundancy"},
    {"criterion": "cross-entropy", "temperature": 0.3},
]


@pytest.mark.parametrize("form", ["primal", "gram"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize(("views", "n", "d"), [(3, 4, 6), (4, 6, 4)])
def test_value_and_gradient_are_the_double_sums(views: int, n: int, d: int, variant: dict[str, Any], form: str) -> None:
    if form == "gram" and "criterion" in variant:
        return
    arrays = embeddings(views, n, d)
    rest = {key: value for key, value in variant.items() if key != "terms"}
    used = variant.get("terms", "both")
    expected = [oracle.loss(arrays, lambd=0.02, terms_used=used, **rest), *oracle.averaged_terms(arrays, **rest)]
    tensors = [torch.tensor(z, requires_grad=True) for z in arrays]
    terms = multi_crop_loss(tensors, lambd=0.02, form=form, **variant)
    np.testing.assert_allclose([t.item() for t in terms], expected, rtol=1e-10)
    terms.loss.backward()
    for number, tensor in enumerate(tensors):

        def value(z: np.ndarray, number: int = number) -> float:
            return oracle.loss(
                [z if v == number else other for v, other in enumerate(arrays)], lambd=0.02, terms_used=used, **rest
            )

        expected_grad = numerical_gradient(value, arrays[number])
        assert tensor.grad is not None
        np.testing.assert_allclose(
            tensor.grad.numpy(), expected_grad, atol=1e-7 * max(1.0, np.abs(expected_grad).max())
        )


@pytest.mark.parametrize("form", ["primal", "gram"])
def test_gradcheck_of_each_term(form: str) -> None:
    tensors = tuple(torch.tensor(z, requires_grad=True) for z in embeddings(4, 5, 6))
    for index in (1, 2):
        assert torch.autograd.gradcheck(lambda *z, index=index: multi_crop_loss(z, form=form)[index], tensors)


@pytest.mark.parametrize(("n", "d"), [(5, 9), (9, 5)])
def test_of_two_views_it_is_barlow_twins_to_the_bit(n: int, d: int) -> None:
    arrays = embeddings(2, n, d)
    ours, theirs = ([torch.tensor(z, dtype=torch.float32, requires_grad=True) for z in arrays] for _ in range(2))
    actual, expected = multi_crop_loss(ours), barlow_twins_loss(theirs[0], theirs[1])
    actual.loss.backward()
    expected.loss.backward()
    assert [t.item() for t in actual] == [t.item() for t in expected]
    for one, other in zip(ours, theirs, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize("form", ["primal", "gram"])
def test_a_small_view_that_repeats_the_large_ones_changes_nothing(form: str) -> None:
    """All views equal: every comparison is the same one, and the weights add up to 1."""
    z = torch.tensor(embeddings(2, 8, 5)[0])
    pair = barlow_twins_loss(z, z)
    for views in (3, 6):
        assert multi_crop_loss([z] * views, form=form).loss.item() == pytest.approx(pair.loss.item(), rel=1e-10)  # type: ignore[arg-type]
        assert sum(comparisons(views).values()) == pytest.approx(1.0)
        assert len(comparisons(views)) == 2 * views - 3


def test_each_product_is_formed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Primal: one for each pair. Gram: one for each view."""
    formed: list[str] = []
    from barlowctl.objective import multi_crop

    monkeypatch.setattr(
        multi_crop, "primal_terms", lambda a, b, **rest: formed.append("C") or correlation.primal_terms(a, b, **rest)
    )
    monkeypatch.setattr(multi_crop, "symmetric_gram", lambda a: formed.append("G") or correlation.symmetric_gram(a))
    tensors = [torch.tensor(z) for z in embeddings(6, 5, 4)]
    multi_crop_loss(tensors, form="primal")
    assert formed == ["C"] * 9
    formed.clear()
    multi_crop_loss(tensors, form="gram")
    assert formed == ["G"] * 6


def test_with_many_views_the_gram_form_is_cheaper_up_to_larger_batches() -> None:
    """Eight views alone: 12 n² d against 39 n d²."""
    assert choose_form(3 * 512, 512, views=8) == "gram"
    assert choose_form(4 * 512, 512, views=8) == "primal"
    assert form_costs(100, 50) == {"primal": 3 * 100 * 50 * 50, "gram": 3 * 100 * 100 * 50}


def test_constant_embeddings_stay_finite() -> None:
    tensors = [torch.full((4, 3), float(v), requires_grad=True) for v in range(4)]
    for form in ("primal", "gram"):
        multi_crop_loss(tensors, form=form).loss.backward()  # type: ignore[arg-type]
        assert all(z.grad is not None and torch.isfinite(z.grad).all() for z in tensors)


def test_bad_input_is_named() -> None:
    with pytest.raises(UserError, match=r"\(4, 8\) and \(4, 9\)"):
        multi_crop_loss([torch.randn(4, 8), torch.randn(4, 8), torch.randn(4, 9)])
    with pytest.raises(UserError, match="form is 'gram'"):
        multi_crop_loss([torch.randn(4, 8)] * 3, criterion="cross-entropy", form="gram")
