"""Diagnostics against numpy's decompositions and on representations whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from barlowctl.errors import UserError
from barlowctl.eval.diagnostics import (
    correlation_block,
    correlation_spectrum,
    correlation_summary,
    effective_rank,
    eigenspectrum,
    feature_spread,
    spectrum_decay,
)


def features(n: int, f: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(n, f)) * np.geomspace(1, 0.01, f) + random.normal(size=f)


SHAPES = [(50, 8), (8, 50), (20, 20)]


@pytest.mark.parametrize(("n", "f"), SHAPES)
def test_feature_spread_matches_its_definition(n: int, f: int) -> None:
    x = features(n, f)
    unit = np.stack([row / math.sqrt((row**2).sum()) for row in x])
    expected = math.sqrt(f) * np.mean([math.sqrt(((c - c.mean()) ** 2).mean()) for c in unit.T])
    assert feature_spread(torch.tensor(x)) == pytest.approx(expected, rel=1e-12)
    for scale in (37.0, 1e-20, 1e30):
        assert feature_spread(torch.tensor(x, dtype=torch.float32) * scale) == pytest.approx(expected, rel=1e-5)


def test_feature_spread_of_known_cases() -> None:
    random = np.random.default_rng(0)
    assert feature_spread(torch.tensor(random.normal(size=(5000, 64)))) == pytest.approx(1.0, abs=0.01)
    collapsed = torch.ones(10, 4) * torch.arange(1, 11)[:, None]
    assert feature_spread(collapsed) == pytest.approx(0.0, abs=1e-7)
    assert feature_spread(torch.zeros(10, 4)) == 0.0


@pytest.mark.parametrize(("n", "f"), SHAPES)
def test_effective_rank_matches_numpys_singular_values(n: int, f: int) -> None:
    x = features(n, f)
    sigma = np.linalg.svd(x, compute_uv=False)
    p = sigma / sigma.sum() + 1e-7
    assert effective_rank(torch.tensor(x)) == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-6)
    assert effective_rank(torch.tensor(100 * x)) == pytest.approx(effective_rank(torch.tensor(x)), rel=1e-9)


def test_effective_rank_of_known_cases() -> None:
    orthogonal = np.linalg.qr(np.random.default_rng(0).normal(size=(30, 6)))[0]
    assert effective_rank(torch.tensor(orthogonal)) == pytest.approx(6.0, rel=1e-4)
    assert effective_rank(torch.tensor(orthogonal[:, :3] @ np.eye(3, 6))) == pytest.approx(3.0, rel=1e-4)
    assert effective_rank(torch.ones(10, 5)) == pytest.approx(1.0, rel=1e-4)
    assert effective_rank(torch.zeros(10, 5)) == 0.0


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_spectrum_decay_finds_the_exponent(alpha: float) -> None:
    random = np.random.default_rng(0)
    centred = random.normal(size=(200, 10))
    orthogonal = np.linalg.qr(centred - centred.mean(0))[0]  # columns with mean 0
    rotation = np.linalg.qr(random.normal(size=(10, 10)))[0]
    x = orthogonal * np.arange(1, 11) ** (-alpha / 2) @ rotation + 4.0
    assert spectrum_decay(torch.tensor(x)) == pytest.approx(alpha, rel=1e-6)
    assert math.isnan(spectrum_decay(torch.ones(5, 3)))


@pytest.mark.parametrize(("n", "d"), [(40, 6), (5, 12), (9, 1), (30, 1500)])
def test_correlation_summary_matches_numpy(n: int, d: int) -> None:
    z1 = features(n, d)
    z2 = z1 + 0.3 * features(n, d, seed=1)
    c = np.corrcoef(z1.T, z2.T)[:d, d:] if d > 1 else np.array([[np.corrcoef(z1.T, z2.T)[0, 1]]])
    off = c[~np.eye(d, dtype=bool)]
    summary = correlation_summary(torch.tensor(z1), torch.tensor(z2))
    assert summary.mean_diagonal == pytest.approx(np.diag(c).mean(), rel=1e-9)
    assert summary.rms_off_diagonal == pytest.approx(math.sqrt((off**2).mean()) if d > 1 else 0.0, rel=1e-8)


@pytest.mark.parametrize(("n", "d"), [(40, 6), (5, 12), (30, 150)])
def test_the_spectrum_of_c_is_numpys(n: int, d: int) -> None:
    """Also where D exceeds N and no D x D matrix is made."""
    z1 = features(n, d)
    z2 = z1 + 0.3 * features(n, d, seed=1)
    c = np.corrcoef(z1.T, z2.T)[:d, d:]
    expected = np.linalg.svd(c, compute_uv=False)
    ours = correlation_spectrum(torch.tensor(z1), torch.tensor(z2)).numpy()
    assert len(ours) == min(n, d)
    # The centred embeddings have one rank less than samples; square roots of rounding remain there.
    np.testing.assert_allclose(ours, expected[: len(ours)], rtol=1e-6, atol=1e-6)
    block = correlation_block(torch.tensor(z1), torch.tensor(z2), size=5).numpy()
    np.testing.assert_allclose(block, c[:5, :5], atol=1e-6)


def test_spectra_of_a_healthy_and_a_collapsed_representation() -> None:
    random = np.random.default_rng(0)
    whitened = np.linalg.qr(random.normal(size=(400, 20)) - 0.0)[0]
    whitened -= whitened.mean(0)
    whitened = np.linalg.qr(whitened)[0]
    np.testing.assert_allclose(correlation_spectrum(*[torch.tensor(whitened)] * 2).numpy(), 1.0, atol=1e-9)
    collapsed = torch.tensor(random.normal(size=(400, 1)) @ np.ones((1, 20)))
    spectrum = correlation_spectrum(collapsed, collapsed)
    assert spectrum[0] == pytest.approx(20.0)
    assert spectrum[1] < 1e-6
    assert eigenspectrum(collapsed)[0] == pytest.approx(1.0)
    x = features(50, 7)
    expected = np.sort(np.linalg.eigvalsh(np.cov(x.T)))[::-1]
    np.testing.assert_allclose(eigenspectrum(torch.tensor(x)).numpy(), expected / expected.sum(), rtol=1e-8)


def test_a_constant_dimension_has_correlation_zero() -> None:
    z = torch.tensor(features(30, 4))
    z[:, 0] = 3.0
    assert correlation_summary(z, z).mean_diagonal == pytest.approx(0.75)


def test_bad_input_is_named() -> None:
    for function in (feature_spread, effective_rank, spectrum_decay):
        with pytest.raises(UserError, match=r"\(1, 4\)"):
            function(torch.zeros(1, 4))
        with pytest.raises(UserError, match="NaN"):
            function(torch.full((3, 4), float("nan")))
    with pytest.raises(UserError, match="differ in shape"):
        correlation_summary(torch.zeros(3, 4), torch.zeros(3, 5))
    with pytest.raises(UserError, match="differ in shape"):
        correlation_spectrum(torch.zeros(3, 4), torch.zeros(3, 5))
