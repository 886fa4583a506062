"""NT-Xent against an oracle of loops: value, gradient, and what must not change it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from barlowctl.errors import UserError
from barlowctl.objective import similarity
from barlowctl.objective.simclr import nt_xent
from tests.oracles import contrastive as oracle
from tests.oracles.loss import numerical_gradient

N, D = 7, 5


def embeddings(n: int = N, d: int = D, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z1 = 3.0 * torch.randn(n, d, generator=generator, dtype=torch.float64)
    return z1, 0.5 * z1 + torch.randn(n, d, generator=generator, dtype=torch.float64)


def gradients(z1: Tensor, z2: Tensor, temperature: float) -> list[Tensor]:
    a, b = (z.clone().requires_grad_() for z in (z1, z2))
    return list(torch.autograd.grad(nt_xent(a, b, temperature=temperature).loss, (a, b)))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize(("n", "d"), [(N, D), (2, 1), (4, 9)])
def test_value_and_terms_match_the_loops(n: int, d: int, temperature: float) -> None:
    z1, z2 = embeddings(n, d)
    expected = oracle.nt_xent(z1.numpy(), z2.numpy(), temperature)
    np.testing.assert_allclose([t.item() for t in nt_xent(z1, z2, temperature=temperature)], expected, rtol=1e-12)
    single = nt_xent(z1.float(), z2.float(), temperature=temperature)
    assert single.loss.dtype == torch.float32
    np.testing.assert_allclose([t.item() for t in single], expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("entries", [1, 30, 1 << 22])  # a row at a time, two rows, all at once
def test_the_gradient_is_the_formulas(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "ENTRIES_AT_ONCE", entries)
    z1, z2 = embeddings()
    expected = [
        numerical_gradient(lambda z: oracle.nt_xent(z, z2.numpy(), 0.2)[0], z1.numpy()),
        numerical_gradient(lambda z: oracle.nt_xent(z1.numpy(), z, 0.2)[0], z2.numpy()),
    ]
    for ours, expected_grad in zip(gradients(z1, z2, 0.2), expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), expected_grad, rtol=0, atol=1e-8)
    terms = nt_xent(z1, z2, temperature=0.2)
    np.testing.assert_allclose([t.item() for t in terms], oracle.nt_xent(z1.numpy(), z2.numpy(), 0.2), rtol=1e-12)


@pytest.mark.parametrize("entries", [(2 * N) ** 2 - 1, (2 * N) ** 2])
def test_a_table_of_one_block_is_kept_and_left_as_it_is(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "ENTRIES_AT_ONCE", entries)
    z1, z2 = (z.requires_grad_() for z in embeddings())
    loss = nt_xent(z1, z2, temperature=0.2).loss
    assert loss.grad_fn is not None
    *_, table = loss.grad_fn.saved_tensors  # type: ignore[attr-defined]
    assert (table is not None) == (entries == (2 * N) ** 2)
    first, second = (torch.autograd.grad(loss, (z1, z2), retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_gradcheck() -> None:
    z1, z2 = (z.requires_grad_() for z in embeddings(4, 3))
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, temperature=0.5).loss, (z1, z2))


def test_equal_rows_give_the_logarithm_of_the_number_of_candidates() -> None:
    """A row is no candidate for itself: ln(2 N - 1), not ln(2 N)."""
    z = torch.ones(N, D, dtype=torch.float64)
    terms = nt_xent(z, z, temperature=0.1)
    assert terms.loss.item() == pytest.approx(math.log(2 * N - 1), rel=1e-12)
    assert (terms.similarity.item(), terms.accuracy.item()) == (pytest.approx(1.0), 0.0)  # nothing is nearer
    assert terms.spread.item() == pytest.approx(0.0, abs=1e-7)


def test_views_may_be_swapped_and_scaled() -> None:
    """The temperature divides cosines, not products of embeddings."""
    z1, z2 = embeddings()
    loss = nt_xent(z1, z2, temperature=0.1).loss.item()
    assert nt_xent(z2, z1, temperature=0.1).loss.item() == pytest.approx(loss, rel=1e-12)
    assert nt_xent(10 * z1, 10 * z2, temperature=0.1).loss.item() == pytest.approx(loss, rel=1e-12)
    assert nt_xent(z1, 10 * z2, temperature=0.1).loss.item() == pytest.approx(loss, rel=1e-12)
    assert nt_xent(z1, z2, temperature=0.2).loss.item() != pytest.approx(loss, rel=1e-2)


def test_the_authors_code_gives_twice_the_loss() -> None:
    """`objective.py` of google-research/simclr, with its masks of 1e9."""
    z1, z2 = embeddings()
    h1, h2 = (torch.nn.functional.normalize(z, dim=1) for z in (z1, z2))
    masks, labels = torch.eye(N, dtype=torch.float64) * 1e9, torch.arange(N)
    logits_aa, logits_bb = h1 @ h1.t() / 0.1 - masks, h2 @ h2.t() / 0.1 - masks
    logits_ab = h1 @ h2.t() / 0.1
    entropy = torch.nn.functional.cross_entropy
    theirs = entropy(torch.cat([logits_ab, logits_aa], 1), labels) + entropy(
        torch.cat([logits_ab.t(), logits_bb], 1), labels
    )
    assert theirs.item() == pytest.approx(2 * nt_xent(z1, z2, temperature=0.1).loss.item(), rel=1e-12)


def test_a_tiny_temperature_and_a_zero_row_stay_finite() -> None:
    z1, z2 = (z.float() for z in embeddings())
    z1[0] = 0.0
    a, b = z1.requires_grad_(), z2.requires_grad_()
    loss = nt_xent(a, b, temperature=1e-3).loss
    loss.backward()
    assert a.grad is not None
    assert b.grad is not None
    assert all(torch.isfinite(t).all() for t in (loss, a.grad, b.grad))


def test_it_is_computed_in_float32_under_autocast() -> None:
    z1, z2 = (z.bfloat16() for z in embeddings())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nt_xent(z1, z2, temperature=0.1).loss
    assert loss.dtype == torch.float32
    expected = oracle.nt_xent(z1.double().numpy(), z2.double().numpy(), 0.1)[0]
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_what_cannot_be_compared() -> None:
    z1, z2 = embeddings()
    with pytest.raises(UserError, match="no negatives"):
        nt_xent(z1[:1], z2[:1])
    with pytest.raises(UserError, match="shapes"):
        nt_xent(z1, z2[:3])
    with pytest.raises(UserError, match="temperature is 0"):
        nt_xent(z1, z2, temperature=0.0)
    with pytest.raises(UserError, match=r"torch\.int64"):
        nt_xent(z1.long(), z2.long())
