"""The orthogonal factor against its definition in float64, by a singular value decomposition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from barlowctl import processor
from barlowctl.train.polar import POLYNOMIALS, orthogonalize

IN_FLOAT32 = [(8, 72), (32, 8), (40, 40), (64, 100)]
IN_BFLOAT16 = [(96, 200), (200, 96), (80, 80), (80, 700)]
LIKE_A_MOMENTUM = 0.04  # the smallest singular value, over the largest: convolutions have such in training


def spread_matrix(shape: tuple[int, int], smallest: float = LIKE_A_MOMENTUM) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A matrix and its decomposition; singular values are spread evenly in their logarithm."""
    generator = torch.Generator().manual_seed(shape[0])
    random = torch.randn(shape, generator=generator, dtype=torch.float64)
    u, s, vh = torch.linalg.svd(random, full_matrices=False)
    s = 3.0 * torch.logspace(0.0, torch.tensor(smallest).log10().item(), len(s), dtype=torch.float64)
    return u @ s.diag() @ vh, u, s, vh


def composed(s: Tensor) -> Tensor:
    """f of the definition: each value is divided by the 8-norm of all, then changed by one polynomial after another."""
    s = s / s.pow(8).sum().pow(1 / 8)
    for a, b, c in POLYNOMIALS:
        s = a * s + b * s**3 + c * s**5
    return s


@pytest.fixture(params=[True, False], ids=["multiplies bf16", "emulates bf16"])
def multiplies_bf16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """As on a processor that multiplies in bfloat16, and on one that does not."""
    monkeypatch.setattr(processor, "multiplies_bf16", lambda: request.param)
    return bool(request.param)


@pytest.mark.parametrize(
    ("shape", "tolerance"),
    [(shape, 1e-5) for shape in IN_FLOAT32] + [(shape, 0.03) for shape in IN_BFLOAT16],
)
def test_it_is_its_definition(shape: tuple[int, int], tolerance: float, multiplies_bf16: bool) -> None:
    """The error of the whole matrix, over its norm."""
    tolerance = tolerance if multiplies_bf16 else 1e-5
    matrix, u, s, vh = spread_matrix(shape)
    exact = u @ composed(s).diag() @ vh
    result = orthogonalize(matrix.float())
    assert result.dtype == torch.float32
    assert (result - exact).norm() / exact.norm() < tolerance


@pytest.mark.usefixtures("multiplies_bf16")
@pytest.mark.parametrize("shape", IN_FLOAT32 + IN_BFLOAT16)
def test_singular_values_come_near_to_1(shape: tuple[int, int]) -> None:
    """The polar factor is U Vᵀ: the same vectors, and all values 1."""
    matrix, u, _, vh = spread_matrix(shape)
    between = u.t() @ orthogonalize(matrix.float()).double() @ vh.t()
    values = between.diagonal()
    assert values.min() > 0.7
    assert values.max() < 1.35
    assert (between - torch.diag(values)).abs().max() < 0.06


def test_the_polynomials_bring_every_value_from_a_hundredth_on_near_to_1() -> None:
    s = torch.logspace(-2, 0, 10_001, dtype=torch.float64)
    for a, b, c in POLYNOMIALS:
        s = a * s + b * s**3 + c * s**5
    assert (s - 1.0).abs().max() < 0.285


def test_small_values_are_lifted_as_far_as_is_said() -> None:
    matrix, u, s, vh = spread_matrix((40, 60), smallest=1e-4)
    values = (u.t() @ orthogonalize(matrix.float()).double() @ vh.t()).diagonal()
    assert values[-1] / (s[-1] / s.pow(8).sum().pow(1 / 8)) == pytest.approx(76.8, rel=0.02)


@pytest.mark.usefixtures("multiplies_bf16")
@pytest.mark.parametrize("shape", [(5, 7), (80, 90), (70, 700)])
def test_scale_does_not_matter_and_zeros_stay_zeros(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    for scale in (1e-5, 1e4):
        torch.testing.assert_close(orthogonalize(scale * matrix), orthogonalize(matrix), rtol=0.0, atol=0.02)
    assert not orthogonalize(torch.zeros(shape)).any()
