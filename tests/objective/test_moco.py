"""InfoNCE against an oracle of loops: value, gradient of queries alone, and what must not change it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from barlowctl.errors import UserError
from barlowctl.objective import similarity
from barlowctl.objective.moco import info_nce
from tests.oracles import contrastive as oracle
from tests.oracles.loss import numerical_gradient

N, D, K = 6, 5, 11


def given(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q = 2.0 * torch.randn(N, D, generator=generator, dtype=torch.float64)
    k = 0.5 * q + torch.randn(N, D, generator=generator, dtype=torch.float64)
    queue = torch.randn(K, D, generator=generator, dtype=torch.float64)
    return q, k, torch.nn.functional.normalize(queue, dim=1)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_value_and_terms_match_the_loops(temperature: float) -> None:
    q, k, queue = given()
    expected = oracle.info_nce(q.numpy(), k.numpy(), queue.numpy(), temperature)
    terms = info_nce(q, k, queue, temperature=temperature)
    np.testing.assert_allclose([t.item() for t in terms], expected, rtol=1e-12)
    single = info_nce(q.float(), k.float(), queue.float(), temperature=temperature)
    assert single.loss.dtype == torch.float32
    np.testing.assert_allclose([t.item() for t in single], expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("entries", [1, 25, 1 << 22])  # a query at a time, two, all at once
def test_the_gradient_is_the_formulas_and_goes_to_queries_alone(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "ENTRIES_AT_ONCE", entries)
    q, k, queue = (z.requires_grad_() for z in given())
    info_nce(q, k, queue, temperature=0.2).loss.backward()
    constants = k.detach().numpy(), queue.detach().numpy()
    expected = numerical_gradient(lambda z: oracle.info_nce(z, *constants, 0.2)[0], q.detach().numpy())
    assert q.grad is not None
    np.testing.assert_allclose(q.grad.numpy(), expected, rtol=0, atol=1e-8)
    assert k.grad is None
    assert queue.grad is None
    terms = info_nce(q, k, queue, temperature=0.2)
    assert not terms.similarity.requires_grad
    np.testing.assert_allclose(
        [t.item() for t in terms], oracle.info_nce(q.detach().numpy(), *constants, 0.2), rtol=1e-12
    )


@pytest.mark.parametrize("one_block", [True, False])
def test_similarities_of_one_block_are_kept_and_left_as_they_are(
    one_block: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, queue = given()
    monkeypatch.setattr(similarity, "ENTRIES_AT_ONCE", len(q) * len(queue) - (not one_block))
    loss = info_nce(q.requires_grad_(), k, queue, temperature=0.2).loss
    assert loss.grad_fn is not None
    *_, table = loss.grad_fn.saved_tensors  # type: ignore[attr-defined]
    assert (table is not None) == one_block
    first, second = (torch.autograd.grad(loss, q, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_gradcheck() -> None:
    q, k, queue = given()
    assert torch.autograd.gradcheck(lambda z: info_nce(z, k, queue, temperature=0.5).loss, (q.requires_grad_(),))


def test_equal_rows_give_the_logarithm_of_the_number_of_candidates() -> None:
    z = torch.ones(N, D, dtype=torch.float64)
    queue = torch.nn.functional.normalize(torch.ones(K, D, dtype=torch.float64), dim=1)
    terms = info_nce(z, z, queue, temperature=0.07)
    assert terms.loss.item() == pytest.approx(math.log(K + 1), rel=1e-12)
    assert terms.similarity.item() == pytest.approx(1.0)


def test_it_is_the_cross_entropy_of_the_authors_logits() -> None:
    """`moco/builder.py`: the positive is class 0 of 1 + K."""
    q, k, queue = given()
    unit_q, unit_k = (torch.nn.functional.normalize(z, dim=1) for z in (q, k))
    positives = torch.einsum("nc,nc->n", unit_q, unit_k).unsqueeze(-1)
    logits = torch.cat([positives, torch.einsum("nc,ck->nk", unit_q, queue.t())], dim=1) / 0.07
    theirs = torch.nn.functional.cross_entropy(logits, torch.zeros(N, dtype=torch.long))
    assert info_nce(q, k, queue).loss.item() == pytest.approx(theirs.item(), rel=1e-12)


def test_the_scale_of_queries_and_keys_does_not_matter_and_their_roles_do() -> None:
    q, k, queue = given()
    loss = info_nce(q, k, queue).loss.item()
    assert info_nce(10 * q, 10 * k, queue).loss.item() == pytest.approx(loss, rel=1e-12)
    assert info_nce(k, q, queue).loss.item() != pytest.approx(loss, rel=1e-3)


def test_a_tiny_temperature_stays_finite() -> None:
    q, k, queue = (z.float() for z in given())
    q.requires_grad_()
    loss = info_nce(q, k, queue, temperature=1e-3).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert q.grad is not None
    assert torch.isfinite(q.grad).all()


def test_it_is_computed_in_float32_under_autocast() -> None:
    q, k, queue = given()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = info_nce(q.bfloat16(), k.bfloat16(), queue.float()).loss
    rounded = (z.bfloat16().double().numpy() for z in (q, k))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(oracle.info_nce(*rounded, queue.numpy(), 0.07)[0], rel=1e-6)


def test_keys_of_another_precision_are_taken_as_the_queries_are() -> None:
    q, k, queue = given()
    expected = info_nce(q.float().requires_grad_(), k.float(), queue.float())
    for keys, rows in ((k, queue), (k.float(), queue), (k, queue.float())):
        single = q.float().requires_grad_()
        loss = info_nce(single, keys, rows).loss
        loss.backward()
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected.loss.item(), rel=1e-5)
        assert single.grad is not None


def test_what_cannot_be_compared() -> None:
    q, k, queue = given()
    with pytest.raises(UserError, match="shapes"):
        info_nce(q, k[:3], queue)
    with pytest.raises(UserError, match=r"queue has shape \(11, 4\)"):
        info_nce(q, k, queue[:, :4])
    with pytest.raises(UserError, match="temperature is -1"):
        info_nce(q, k, queue, temperature=-1)
