"""Principal components against NumPy's singular value decomposition, their sign, and the colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from barlowctl.errors import UserError
from barlowctl.eval.components import colours, principal_components


def rows(count: int, width: int) -> np.ndarray:
    random = np.random.default_rng(3)
    return random.normal(size=(count, width)) * np.linspace(3.0, 0.5, width) + random.normal(size=width)


@pytest.mark.parametrize(("count", "width"), [(200, 12), (9, 40), (12, 12)])
def test_they_are_the_singular_vectors(count: int, width: int) -> None:
    values = rows(count, width)
    centred = values - values.mean(axis=0)
    _, singular, vectors = np.linalg.svd(centred, full_matrices=False)
    ours = principal_components(torch.from_numpy(values))
    for number in range(3):
        peak = np.argmax(np.abs(vectors[number]))
        expected = vectors[number] * np.sign(vectors[number, peak])
        np.testing.assert_allclose(ours.directions[number].numpy(), expected, atol=1e-9)
        assert ours.directions[number, peak] > 0
    np.testing.assert_allclose(ours.shares.numpy(), (singular**2 / (singular**2).sum())[:3], rtol=1e-10)
    expected_scores = centred @ ours.directions.numpy().T
    np.testing.assert_allclose(ours.scores(torch.from_numpy(values)).numpy(), expected_scores, atol=1e-9)


def test_neither_the_order_of_the_rows_nor_the_sign_of_a_solver_changes_them() -> None:
    values = torch.from_numpy(rows(60, 8))
    ours = principal_components(values)
    shuffled = principal_components(values[torch.randperm(60, generator=torch.Generator().manual_seed(1))])
    torch.testing.assert_close(shuffled.directions, ours.directions, rtol=0, atol=1e-12)
    turned = principal_components(2 * values.mean(dim=0) - values)  # the same covariance, all scores negated
    torch.testing.assert_close(turned.directions, ours.directions, rtol=0, atol=1e-9)


def test_directions_without_variance_are_zero_and_grey() -> None:
    line = torch.outer(torch.linspace(-1, 1, 11), torch.tensor([0.0, -3.0, 4.0, 0.0]))
    ours = principal_components(line)
    torch.testing.assert_close(ours.directions[0], torch.tensor([0.0, -0.6, 0.8, 0.0], dtype=torch.float64))
    assert not ours.directions[1:].any()
    assert ours.shares.tolist() == pytest.approx([1.0, 0.0, 0.0])
    painted = colours(ours.scores(line), cut=0.0)
    assert painted[:, 0].tolist() == pytest.approx([25.5 * step for step in range(11)], abs=0.6)
    assert painted[:, 1:].unique().tolist() == [128]
    assert principal_components(torch.ones(5, 2)).shares.tolist() == [0.0, 0.0, 0.0]  # two dimensions, three asked for


def test_a_few_outliers_do_not_darken_the_rest() -> None:
    scores = torch.linspace(0, 1, 1000, dtype=torch.float64)[:, None].repeat(1, 3)
    scores[500] = 1e6
    assert colours(scores)[[0, 250, 999], 0].tolist() == [0, pytest.approx(62, abs=2), 255]


def test_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UserError, match="not finite"):
        principal_components(torch.tensor([[1.0, float("nan")], [0.0, 1.0]]))
