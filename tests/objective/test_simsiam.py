"""The loss of SimSiam against its formula, in value and gradient, with stop-gradient and without."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from barlowctl.errors import UserError
from barlowctl.objective.simsiam import simsiam_loss
from tests.objective.vectors import pair_of_pairs, tensors
from tests.oracles import siamese as oracle
from tests.oracles.loss import numerical_gradient


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_value_and_gradient_match_the_formula(stop_gradient: bool) -> None:
    arrays = list(pair_of_pairs(7, 5))
    for dtype, limit in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        leaves = tensors(*arrays, dtype=dtype)
        terms = simsiam_loss(*leaves, stop_gradient=stop_gradient)
        terms.loss.backward()
        assert terms.loss.item() == pytest.approx(oracle.simsiam(*arrays), rel=limit)
        assert terms.spread.item() == pytest.approx(oracle.spread(*arrays[2:]), rel=1e-5)
        for number, leaf in enumerate(leaves):
            if number >= 2 and stop_gradient:
                assert leaf.grad is None
                continue

            def value(changed: np.ndarray, number: int = number) -> float:
                return oracle.simsiam(*(changed if i == number else array for i, array in enumerate(arrays)))

            assert leaf.grad is not None
            np.testing.assert_allclose(leaf.grad.numpy(), numerical_gradient(value, arrays[number]), atol=1e-6)


def test_gradcheck() -> None:
    leaves = tensors(*pair_of_pairs(4, 3))
    assert torch.autograd.gradcheck(lambda *t: simsiam_loss(*t, stop_gradient=False).loss, leaves)


def test_lengths_do_not_count_and_views_can_be_swapped() -> None:
    p1, p2, z1, z2 = tensors(*pair_of_pairs(7, 5))
    loss = simsiam_loss(p1, p2, z1, z2).loss.item()
    assert simsiam_loss(10 * p1, p2, 10 * z1, z2).loss.item() == pytest.approx(loss, rel=1e-12)
    assert simsiam_loss(p2, p1, z2, z1).loss.item() == pytest.approx(loss, rel=1e-12)
    assert simsiam_loss(p1, p2, z2, z1).loss.item() != pytest.approx(loss, rel=1e-3)


def test_it_is_a_mean_of_the_two_directions_and_collapse_is_its_best_value() -> None:
    one = torch.ones(16, 8)
    terms = simsiam_loss(one, one, one, one)
    assert terms.loss.item() == pytest.approx(-1.0, rel=1e-6)
    assert terms.spread.item() == pytest.approx(0.0, abs=1e-6)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(UserError, match="shapes"):
        simsiam_loss(*[torch.zeros(4, 3)] * 3, torch.zeros(4, 2))


def test_the_peer_where_it_is_installed() -> None:
    pytest.importorskip("lightly")
    from lightly.loss import NegativeCosineSimilarity

    peer = NegativeCosineSimilarity()
    p1, p2, z1, z2 = tensors(*pair_of_pairs(9, 6))
    theirs = 0.5 * (peer(p1, z2.detach()) + peer(p2, z1.detach()))
    assert simsiam_loss(p1, p2, z1, z2).loss.item() == pytest.approx(theirs.item(), rel=1e-10)
