"""Products by vectors of bfloat16, against float64, on every processor.

Also where it has tiles, which it takes instead, and where it has no instruction for them: LLVM makes them of others.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from numba import njit
from torch import Tensor

from barlowctl.kernels.tiles import vectors as vector_tiles

BF16 = torch.bfloat16


@njit
def _add(count, left, row, step, right, right_step, out, out_row):
    vector_tiles.clear_sums(out, out_row)
    vector_tiles.add_products(count, left, row, 16 * row, step, right, 128, 64, right_step, out, out_row)


@njit
def _add_paired(count, left, right, step, given, given_row, out, out_row):
    vector_tiles.add_paired(count, left, right, step, given, given_row, out, out_row, left, 64, right, 64)


@njit
def _multiply(parts, left, row, right, begin, out, out_row):
    vector_tiles.multiply(parts, left, row, right, begin, out, out_row, 4)


@njit
def _multiply_rounded(parts, left, row, right, begin, out, out_row):
    vector_tiles.multiply_rounded(parts, left, row, right, begin, out, out_row, left, 64, out, 64)


@njit
def _multiply_added(parts, left, row, right, begin, out, out_row):
    vector_tiles.multiply_added(parts, left, row, right, begin, out, out_row, left, 64, out, 64)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(BF16)


def paired(matrix: Tensor) -> Tensor:
    """(rows, 32) as a factor on the right: of each two rows, the pair of each column."""
    return matrix.view(-1, 2, 32).transpose(1, 2).contiguous()


def around(out: Tensor, rows: slice = slice(0, 32), columns: slice = slice(0, 32)) -> Tensor:
    """All that was not to be written."""
    rest = torch.ones(out.shape, dtype=torch.bool)
    rest[rows, columns] = False
    return out[rest]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_sums_are_those_of_all_factors(count: int) -> None:
    """Of rows and factors that lie apart, into rows that do."""
    x, w = drawn(32, 40 * count), drawn(48 * count, 32)
    factors = torch.stack([paired(w[48 * step : 48 * step + 32]) for step in range(count)])
    gap = torch.full((count, 100), 7.0, dtype=BF16)
    right = torch.cat([factors.view(count, -1), gap], 1)
    out = torch.full((33, 50), 9.0)
    _add(count, x.data_ptr(), 80 * count, 80, right.data_ptr(), 2 * right.shape[1], out.data_ptr(), 200)
    exact = sum(
        x[:, 40 * step : 40 * step + 32].double() @ w[48 * step : 48 * step + 32].double() for step in range(count)
    )
    assert isinstance(exact, Tensor)
    assert (out[:32, :32].double() - exact).abs().max() <= 1e-6 * exact.abs().max()
    assert bool((around(out) == 9.0).all())


@pytest.mark.parametrize("fresh", [True, False])
def test_sums_go_on_where_others_lie(fresh: bool) -> None:
    """Of two factors that lie as on the right: the sums of the first one's transpose."""
    a, b, given = drawn(64, 32), drawn(64, 32), torch.randn(32, 32)
    factors = [torch.cat([paired(part[:32]), paired(part[32:])]) for part in (a, b)]
    zeros, out = torch.zeros(32), torch.full((34, 64), 9.0)
    start = (zeros.data_ptr(), 0) if fresh else (given.data_ptr(), 128)
    _add_paired(2, *(part.data_ptr() for part in factors), 2048, *start, out.data_ptr(), 256)
    exact = a.double().T @ b.double() + (0.0 if fresh else given.double())
    assert (out[:32, :32].double() - exact).abs().max() <= 1e-6 * exact.abs().max()
    assert bool((around(out) == 9.0).all())


@pytest.mark.parametrize("function", [_multiply, _multiply_rounded, _multiply_added])
@pytest.mark.parametrize("numbers", [8, 24, 32, 200])
def test_rows_need_not_fill_a_factor(numbers: int, function: Any) -> None:
    """Of so many numbers each; what lies behind them, or behind their weights, is not read. Sums begin with others."""
    x, w, begin = drawn(32, numbers), drawn(numbers, 32), torch.randn(32)
    row = torch.full((32, numbers + 3), float("nan"), dtype=BF16)
    row[:, :numbers] = x
    right = torch.cat([paired(w).flatten(), torch.full((64,), float("nan"), dtype=BF16)])
    rounded = function is not _multiply
    out: Any = torch.full((33, 40), 9.0, dtype=BF16 if rounded else torch.float32)
    places = right.data_ptr(), begin.data_ptr(), out.data_ptr()
    function(numbers // 8, row.data_ptr(), 2 * row.shape[1], *places, 40 * out.itemsize)
    exact = x.double() @ w.double() + begin.double() + (9.0 if function is _multiply_added else 0.0)
    error, allowed = (out[:32, :32].double() - exact).abs(), 1e-6 * exact.abs().max()
    if rounded:
        allowed = allowed + (exact.float().to(BF16).double() - exact).abs()
    assert bool((error <= allowed).all())
    assert bool((around(out) == 9.0).all())


@njit
def _multiply_some(parts, left, row, right, begin, out, out_row, eights):
    vector_tiles.multiply(parts, left, row, right, begin, out, out_row, eights)


def test_fewer_rows_are_multiplied() -> None:
    """Of 16: the rows behind them are neither read nor written."""
    x, w, begin, out = drawn(32, 8), drawn(8, 32), torch.zeros(32), torch.full((33, 32), 9.0)
    x[16:] = float("nan")
    right = paired(w)
    _multiply_some(1, x.data_ptr(), 16, right.data_ptr(), begin.data_ptr(), out.data_ptr(), 128, 2)
    exact = x[:16].double() @ w.double()
    assert (out[:16].double() - exact).abs().max() <= 1e-6 * exact.abs().max()
    assert bool((out[16:] == 9.0).all())
