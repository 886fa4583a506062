"""Sinkhorn's codes and the loss of SwAV against the authors' loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from barlowctl.errors import UserError
from barlowctl.objective.swav import sinkhorn, swav_loss
from tests.objective.vectors import scores_of, tensors
from tests.oracles import siamese as oracle
from tests.oracles.loss import numerical_gradient


@pytest.mark.parametrize(("n", "k"), [(12, 5), (5, 12), (8, 8)])
@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_codes_are_those_of_the_authors_loops(n: int, k: int, iterations: int) -> None:
    scores = scores_of(n, k, 2)
    expected = [oracle.sinkhorn(s, iterations=iterations) for s in scores]
    stacked = torch.tensor(np.stack(scores))
    np.testing.assert_allclose(sinkhorn(stacked, iterations=iterations).codes.numpy(), expected, rtol=1e-9, atol=1e-12)
    single = sinkhorn(stacked.float(), iterations=iterations).codes
    np.testing.assert_allclose(single.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_codes_end_on_samples() -> None:
    """Every code adds up to 1; prototypes get about the same, not exactly."""
    codes = sinkhorn(torch.tensor(np.stack(scores_of(32, 6, 2))), iterations=20).codes
    torch.testing.assert_close(codes.sum(dim=2), torch.ones(2, 32, dtype=torch.float64), rtol=1e-12, atol=0)
    share = codes.mean(dim=1) * 6
    assert 1e-9 < float((share - 1).abs().max()) < 0.1


@pytest.mark.parametrize("epsilon", [0.05, 0.005])
def test_scores_at_plus_and_minus_one_neither_overflow_nor_vanish(epsilon: float) -> None:
    """exp(1 / 0.05) is more than float16 holds, exp(1 / 0.005) more than float32 does."""
    random = np.random.default_rng(0)
    scores = random.choice([-1.0, 1.0], size=(16, 8))
    scores[:, 0] = -1.0  # a prototype that nobody is near
    codes = sinkhorn(torch.tensor(scores, dtype=torch.float32)[None], epsilon=epsilon).codes[0]
    assert bool(torch.isfinite(codes).all())
    np.testing.assert_allclose(codes.numpy(), oracle.sinkhorn(scores, epsilon), atol=2e-5)


def in_logarithms(scores: np.ndarray, epsilon: float, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes and their entropies: the authors' loops, of logarithms, where `exp` would overflow."""
    logs, rows = scores / epsilon, np.zeros(len(scores))
    for _ in range(iterations):
        columns = -logsumexp(logs + rows[:, None], axis=0)
        rows = -logsumexp(logs + columns, axis=1)
    of_codes = logs + columns + rows[:, None]
    return np.exp(of_codes), -(np.exp(of_codes) * of_codes).sum(axis=1)


@pytest.mark.parametrize("epsilon", [0.05, 0.02, 0.001])
@pytest.mark.parametrize("iterations", [3, 10, 200])
@pytest.mark.parametrize("kind", ["cosines", "signs", "collapsed", "on one prototype", "no cosines"])
def test_codes_in_single_precision_are_those_of_logarithms(kind: str, iterations: int, epsilon: float) -> None:
    random = np.random.default_rng(3)
    normal = random.normal(size=(48, 30))
    scores = {
        "cosines": np.clip(0.3 * normal, -1.0, 1.0),
        "signs": np.sign(normal),
        "collapsed": 0.3 * normal[:1] + 1e-6 * normal,
        "on one prototype": np.eye(30)[[0] * 44 + [0, 1, 2, 3]],
        "no cosines": 50.0 * normal,
    }[kind].astype(np.float32)
    expected, entropies = in_logarithms(scores.astype(np.float64), epsilon, iterations)
    codes = sinkhorn(torch.tensor(scores)[None], epsilon=epsilon, iterations=iterations)
    np.testing.assert_allclose(codes.codes[0].numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(codes.entropies[0].numpy(), entropies, atol=1e-5)


@pytest.mark.parametrize("views", [2, 5])
def test_value_and_gradient_match_the_authors_loops(views: int) -> None:
    scores = scores_of(7, 5, views)
    codes = [oracle.sinkhorn(s) for s in scores[:2]]
    leaves = tensors(*scores)
    terms = swav_loss(leaves)
    terms.loss.backward()
    assert terms.loss.item() == pytest.approx(oracle.swav(scores), rel=1e-10)
    assert terms.entropy.item() == pytest.approx(oracle.code_entropy(scores), rel=1e-9)
    single = swav_loss(tensors(*scores, dtype=torch.float32))
    assert single.loss.item() == pytest.approx(terms.loss.item(), rel=1e-5)
    for number, leaf in enumerate(leaves):  # codes are constants: the oracle's are kept where scores are moved

        def value(changed: np.ndarray, number: int = number) -> float:
            return oracle.swav([changed if i == number else s for i, s in enumerate(scores)], codes=codes)

        assert leaf.grad is not None
        np.testing.assert_allclose(leaf.grad.numpy(), numerical_gradient(value, scores[number]), atol=1e-8)


def test_an_anchor_never_predicts_its_own_code() -> None:
    """Its gradient comes from the other anchor's code only; a small view's from both."""
    scores = scores_of(6, 4, 3)
    leaves = tensors(*scores)
    swav_loss(leaves).loss.backward()
    codes = [oracle.sinkhorn(s) for s in scores[:2]]
    targets = [codes[1], codes[0], codes[0] + codes[1]]
    for leaf, target in zip(leaves, targets, strict=True):
        predicted = torch.softmax(leaf.detach() / 0.1, dim=1).numpy()
        expected = (target.sum(axis=1, keepdims=True) * predicted - target) / 0.1 / 6 / 2 / 2
        assert leaf.grad is not None
        np.testing.assert_allclose(leaf.grad.numpy(), expected, atol=1e-9)


def test_large_views_can_be_swapped_and_small_ones_too() -> None:
    leaves = tensors(*scores_of(7, 5, 4))
    loss = swav_loss(leaves).loss.item()
    assert swav_loss([leaves[i] for i in (1, 0, 3, 2)]).loss.item() == pytest.approx(loss, rel=1e-12)
    assert swav_loss([leaves[i] for i in (2, 1, 0, 3)]).loss.item() != pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("counted", [4, 9])
def test_samples_in_a_queue_are_scaled_with_the_batch(counted: int) -> None:
    """Those that do not count are as if they were not there."""
    scores, old = scores_of(6, 5, 3), scores_of(9, 5, 2, seed=1)
    expected = oracle.swav(scores, queued=[s[:counted] for s in old])
    counts = torch.arange(9) < counted
    terms = swav_loss(tensors(*scores), queued=torch.tensor(np.stack(old)), counts=counts)
    assert terms.loss.item() == pytest.approx(expected, rel=1e-10)
    assert abs(expected - oracle.swav(scores)) > 1e-4
    none = swav_loss(tensors(*scores), queued=torch.tensor(np.stack(old)), counts=counts & False)
    assert none.loss.item() == pytest.approx(oracle.swav(scores), rel=1e-10)


def test_scores_that_say_nothing_cost_ln_k() -> None:
    terms = swav_loss([torch.zeros(8, 30)] * 2)
    assert terms.loss.item() == pytest.approx(math.log(30), rel=1e-6)
    assert terms.entropy.item() == pytest.approx(math.log(30), rel=1e-6)


def test_half_precision_scores_are_computed_wide() -> None:
    scores = [torch.tensor(s).half() for s in scores_of(8, 5, 2)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = swav_loss(scores)
    assert terms.loss.dtype == torch.float32
    assert terms.loss.item() == pytest.approx(oracle.swav([s.double().numpy() for s in scores]), rel=1e-5)


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match="scores of 1 views"):
        swav_loss([torch.zeros(4, 3)])
    with pytest.raises(UserError, match="shapes"):
        swav_loss([torch.zeros(4, 3), torch.zeros(5, 3)])
    with pytest.raises(UserError, match=r"shapes \(0, 3\), \(0, 3\)"):
        swav_loss([torch.zeros(0, 3)] * 2)
    for setting, words in (({"temperature": -0.1}, "temperature is -0.1"), ({"iterations": 0}, "iterations is 0")):
        with pytest.raises(UserError, match=words):
            swav_loss([torch.zeros(4, 3)] * 2, **setting)


def test_the_peer_where_it_is_installed() -> None:
    pytest.importorskip("lightly")
    from lightly.loss import SwaVLoss

    leaves = tensors(*scores_of(9, 6, 5))
    queued = torch.tensor(np.stack(scores_of(12, 6, 2, seed=1)))
    peer = SwaVLoss(0.1, 3, 0.05)
    assert swav_loss(leaves).loss.item() == pytest.approx(peer(leaves[:2], leaves[2:]).item(), rel=1e-9)
    theirs = peer(leaves[:2], leaves[2:], list(queued)).item()
    assert swav_loss(leaves, queued=queued).loss.item() == pytest.approx(theirs, rel=1e-9)
