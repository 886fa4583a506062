"""The matrices of Winograd's convolutions: that they give a convolution, and that their points were chosen well."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from barlowctl.kernels.winograd.toom_cook import POINTS, TRANSFORMS, Transforms, transposed


def in_float64(transforms: Transforms) -> list[Tensor]:
    matrices = transforms.inputs, transforms.weights, transforms.outputs
    return [torch.tensor(matrix, dtype=torch.float64) for matrix in matrices]


@pytest.mark.parametrize("m", [2, 3, 4])
def test_products_give_the_convolution(m: int) -> None:
    inputs, weights, outputs = in_float64(TRANSFORMS[m])
    assert (inputs.shape, weights.shape, outputs.shape) == ((m + 2, m + 2), (m + 2, 3), (m, m + 2))
    generator = torch.Generator().manual_seed(0)
    d, w = (torch.randn(size, generator=generator, dtype=torch.float64) for size in (m + 2, 3))
    torch.testing.assert_close(outputs @ ((weights @ w) * (inputs @ d)), d.unfold(0, 3, 1) @ w, rtol=1e-12, atol=1e-12)


def test_the_smallest_one_is_the_published_one() -> None:
    """Lavin and Gray 2016, F(2, 3), up to signs and factors of rows that cancel out."""
    inputs, weights, outputs = in_float64(TRANSFORMS[2])
    products = weights[:, :, None] * inputs[:, None, :]  # what each of the four sums of products is made of
    published = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], dtype=torch.float64)
    of_inputs = torch.tensor([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], dtype=torch.float64)
    own = (outputs[:, :, None, None] * products).sum(1)
    of_outputs = torch.tensor([[1, 1, 1, 0], [0, 1, -1, -1]], dtype=torch.float64)
    theirs = (of_outputs[:, :, None, None] * (published[:, :, None] * of_inputs[:, None, :])).sum(1)
    assert torch.equal(own, theirs)


def error(transforms: Transforms, m: int) -> float:
    """Of convolutions of channels that are summed in float32, along a line, against float64."""
    generator = torch.Generator().manual_seed(0)
    d = torch.randn(200, 64, m + 2, generator=generator)
    w = torch.randn(64, 3, generator=generator)
    truth = (d.double().unfold(2, 3, 1) * w.double()[:, None]).sum((1, 3))
    inputs, weights, outputs = (matrix.float() for matrix in in_float64(transforms))
    sums = ((d @ inputs.t()) * (w @ weights.t())).sum(1) @ outputs.t()
    return ((sums.double() - truth).norm() / truth.norm()).item()


@pytest.mark.parametrize("m", [3, 4])
def test_the_points_round_less_than_whole_numbers_do(m: int) -> None:
    whole = Transforms.of([Fraction(point) for point in (0, 1, -1, 2, -2)][: m + 1])
    assert error(TRANSFORMS[m], m) < 0.8 * error(whole, m)
    assert len(set(POINTS[m])) == m + 1


def test_transposed() -> None:
    assert transposed(((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))) == ((1.0, 4.0), (2.0, 5.0), (3.0, 6.0))
