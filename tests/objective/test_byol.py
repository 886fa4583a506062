"""The loss of BYOL against its formula, in value and gradient; the factor between it and others' halves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from barlowctl.errors import UserError
from barlowctl.objective.byol import byol_loss
from tests.objective.vectors import pair_of_pairs, tensors
from tests.oracles import siamese as oracle
from tests.oracles.loss import numerical_gradient


def test_value_and_gradient_match_the_formula() -> None:
    p1, p2, z1, z2 = pair_of_pairs(7, 5)
    for dtype, limit in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        a, b, c, d = tensors(p1, p2, z1, z2, dtype=dtype)
        terms = byol_loss(a, b, c, d)
        terms.loss.backward()
        assert terms.loss.dtype == dtype
        assert terms.loss.item() == pytest.approx(oracle.byol(p1, p2, z1, z2), rel=limit)
        assert terms.spread.item() == pytest.approx(oracle.spread(z1, z2), rel=1e-5)
        assert a.grad is not None
        assert b.grad is not None
        expected = numerical_gradient(lambda p: oracle.byol(p, p2, z1, z2), p1)
        np.testing.assert_allclose(a.grad.numpy(), expected, atol=1e-6)
        expected = numerical_gradient(lambda p: oracle.byol(p1, p, z1, z2), p2)
        np.testing.assert_allclose(b.grad.numpy(), expected, atol=1e-6)


def test_the_target_is_a_constant() -> None:
    a, b, c, d = tensors(*pair_of_pairs(6, 4))
    byol_loss(a, b, c, d).loss.backward()
    assert c.grad is None
    assert d.grad is None


def test_gradcheck() -> None:
    a, b, c, d = tensors(*pair_of_pairs(4, 3))
    assert torch.autograd.gradcheck(lambda p, q: byol_loss(p, q, c.detach(), d.detach()).loss, (a, b))


def test_lengths_do_not_count_and_views_can_be_swapped() -> None:
    a, b, c, d = tensors(*pair_of_pairs(7, 5))
    loss = byol_loss(a, b, c, d).loss.item()
    assert byol_loss(10 * a, b, c, 10 * d).loss.item() == pytest.approx(loss, rel=1e-12)
    assert byol_loss(b, a, d, c).loss.item() == pytest.approx(loss, rel=1e-12)
    assert byol_loss(a, b, d, c).loss.item() != pytest.approx(loss, rel=1e-3)  # each predicts the other view


def test_it_is_zero_where_predictions_are_right_and_the_sum_of_both_directions() -> None:
    """4 + 2 NCS + 2 NCS: half of the mean of both negative cosines would be a fourth of its gradient."""
    a, b, c, d = tensors(*pair_of_pairs(7, 5))
    assert byol_loss(c, d, d, c).loss.item() == pytest.approx(0.0, abs=1e-12)
    assert byol_loss(-c, -d, d, c).loss.item() == pytest.approx(8.0, rel=1e-12)
    mean_cosine = 0.5 * (oracle.simsiam(*(t.detach().numpy() for t in (a, b, c, d)))) * 2
    assert byol_loss(a, b, c, d).loss.item() == pytest.approx(4.0 + 4.0 * mean_cosine, rel=1e-12)


def test_collapse_is_seen() -> None:
    one = torch.ones(64, 16)
    assert byol_loss(one, one, one, one).spread.item() == pytest.approx(0.0, abs=1e-6)
    rows = torch.randn(4096, 16, generator=torch.Generator().manual_seed(0))
    assert byol_loss(rows, rows, rows, rows).spread.item() == pytest.approx(1.0, abs=0.02)


def test_autocast_changes_nothing() -> None:
    a, b, c, d = tensors(*pair_of_pairs(7, 5), dtype=torch.float32)
    exact = byol_loss(a, b, c, d).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert byol_loss(a, b, c, d).loss.item() == exact.item()


def test_shapes_that_differ_are_refused() -> None:
    z = torch.zeros(4, 3)
    with pytest.raises(UserError, match="shapes"):
        byol_loss(z, z, z, torch.zeros(1, 3))
    with pytest.raises(UserError, match="int64"):
        byol_loss(z, z, z, z.long())


def test_the_peer_where_it_is_installed() -> None:
    pytest.importorskip("lightly")
    from lightly.loss import NegativeCosineSimilarity

    peer = NegativeCosineSimilarity()
    a, b, c, d = tensors(*pair_of_pairs(9, 6))
    theirs: Tensor = 4 + 2 * peer(a, d.detach()) + 2 * peer(b, c.detach())
    assert byol_loss(a, b, c, d).loss.item() == pytest.approx(theirs.item(), rel=1e-10)


def test_no_rows_are_refused_where_their_mean_would_be_no_number() -> None:
    for shape in ((0, 8), (4, 0)):
        with pytest.raises(UserError, match="projections of"):
            byol_loss(*[torch.zeros(shape)] * 4)
