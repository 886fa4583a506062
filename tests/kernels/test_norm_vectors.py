"""Batch norm's loops in the widest vectors: that they give what `batch_norm.loops` gives, on every processor."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numba import njit
from torch import Tensor

from barlowctl.kernels.batch_norm import loops as norm_kernels
from barlowctl.kernels.batch_norm import threads as norm_threads
from barlowctl.kernels.batch_norm import vectors as norm_vectors
from barlowctl.kernels.number_formats import LIKE
from barlowctl.model.cpu.fused_norm import FusedBatchNorm2d

BF16 = torch.bfloat16


def compiled(kernels: ModuleType) -> dict[str, Any]:
    """Its functions, as they are called from code that is compiled."""

    @njit
    def sums(g, x, y, m, like, sizes, centre, scale, shift, kind):
        count, length, columns = sizes
        if kind == 0:
            return kernels.add_block(x, like, count, length, columns, centre)
        if kind == 1:
            return kernels.add_product_block(g, x, like, count, length, columns, centre)
        if kind == 2:
            return kernels.add_rectified_block(g, x, like, count, length, columns, centre, scale, shift)
        return kernels.add_masked_block(g, x, y, m, like, count, length, columns, centre)

    @njit
    def write(g, x, y, m, like, sizes, factors, kind, rectified):
        count, length, _ = sizes
        scale, shift, slope, offset = factors
        if kind == 0:
            kernels.write_values(x, m, like, count, length, scale, shift, rectified)
        elif kind == 1:
            kernels.write_sum(x, y, m, like, count, length, scale, shift)
        else:
            kernels.write_gradient(g, x, m, like, count, length, scale, shift, slope, offset, rectified)

    @njit
    def marked_sum(x, y, m, bits, like, sizes, scale, shift):
        kernels.write_marked_sum(x, y, m, bits, like, sizes[0], sizes[1], scale, shift)

    @njit
    def marked_block(g, x, bits, m, like, sizes, centre):
        return kernels.add_marked_block(g, x, bits, m, like, *sizes, centre)

    return {"sums": sums, "write": write, "marked_sum": marked_sum, "marked_block": marked_block}


@pytest.fixture(scope="module")
def both() -> list[dict[str, Any]]:
    return [compiled(norm_kernels), compiled(norm_vectors)]


def drawn(count: int, length: int) -> tuple[list[Tensor], list[np.ndarray]]:
    """A gradient, a map, a result of which half is 0, and room for a map; five rows of factors."""
    generator = torch.Generator().manual_seed(5)
    g, x, y = (torch.randn(count, length, generator=generator).to(BF16) for _ in range(3))
    rows = [torch.randn(length, generator=generator).numpy() for _ in range(5)]
    return [g, x, y.relu(), torch.full_like(x, 7.0)], rows


def addresses(maps: list[Tensor]) -> list[int]:
    return [part.data_ptr() for part in maps]


@pytest.mark.parametrize("kind", range(4), ids=["values", "products", "rectified", "masked"])
@pytest.mark.parametrize(("count", "columns"), [(1, 16), (3, 37), (40, 128), (256, 200), (5, 15), (17, 512)])
def test_sums_are_those_of_the_loops(both: list[dict[str, Any]], kind: int, count: int, columns: int) -> None:
    """Of the first columns of longer rows. Sums are in the same order."""
    made = []
    for kernels in both:
        maps, (centre, scale, shift, *_) = drawn(count, columns + 3)
        maps[1][0, 0], maps[0][0, columns - 1] = float("nan"), float("inf")
        sizes = count, columns + 3, columns
        sums = kernels["sums"](*addresses(maps), LIKE[BF16], sizes, centre, scale, shift, kind)
        made.append(([torch.from_numpy(part) for part in sums], maps[3]))
    (expected, expected_mask), (sums, mask) = made
    for one, other in zip(sums, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-6, atol=2e-6 * count, equal_nan=True)
    assert torch.equal(mask, expected_mask)
    if kind == 3:
        maps, _ = drawn(count, columns + 3)
        maps[0][0, columns - 1] = float("inf")
        assert torch.equal(mask[:, :columns], torch.where(maps[2] == 0, 0.0, maps[0])[:, :columns])
        assert bool((mask[:, columns:] == 7.0).all())


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("kind", range(3), ids=["values", "sum", "gradient"])
@pytest.mark.parametrize(("count", "length"), [(1, 16), (3, 37), (40, 128), (6, 200), (2, 1024)])
def test_what_is_written_is_the_nearest_number(
    both: list[dict[str, Any]], kind: int, rectified: bool, count: int, length: int
) -> None:
    results = []
    for kernels in both:
        maps, rows = drawn(count, length)
        kernels["write"](*addresses(maps), LIKE[BF16], (count, length, length), tuple(rows[:4]), kind, rectified)
        results.append(maps[3])
    (g, x, y, _), rows = drawn(count, length)
    scale, shift, slope, offset, _ = (torch.from_numpy(row).double() for row in rows)
    passed = x.double() * scale + shift
    exact = {0: passed, 1: passed + y.double()}.get(kind)
    if exact is None:
        whole = g.double() * (passed > 0) if rectified else g.double()
        exact = whole * scale + x.double() * slope + offset
    elif rectified or kind == 1:
        exact = exact.relu()
    for made in results:
        error, least = (made.double() - exact).abs(), (exact.float().to(BF16).double() - exact).abs()
        assert bool((error <= least + 1e-6 * (1.0 + exact.abs())).all())


def test_what_is_no_number_stays_so(both: list[dict[str, Any]]) -> None:
    for kind, rectified in ((0, False), (0, True), (1, True), (2, False), (2, True)):
        maps, rows = drawn(4, 32)
        maps[0][1, 5] = maps[1][2, 7] = float("nan")
        both[1]["write"](*addresses(maps), LIKE[BF16], (4, 32, 32), tuple(rows[:4]), kind, rectified)
        places = maps[3].isnan().nonzero().tolist()
        assert [2, 7] in places
        assert places == [[2, 7]] or (kind == 2 and places == [[1, 5], [2, 7]])


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """They are taken, also where the processor has no such vectors, on which they are slow."""
    monkeypatch.setattr(norm_vectors, "USABLE", True)
    norm_threads._functions.cache_clear()
    yield
    norm_threads._functions.cache_clear()


def bits_of(results: Tensor) -> Tensor:
    """Whether each is not 0, eight to a byte from the lowest bit on."""
    passed = (results.flatten() != 0).view(-1, 8).long()
    return (passed << torch.arange(8)).sum(1).to(torch.uint8)


@pytest.mark.parametrize(("count", "length"), [(1, 16), (3, 48), (40, 128), (300, 512), (2, 1040)])
def test_a_bit_says_of_each_sum_whether_it_is_zero(both: list[dict[str, Any]], count: int, length: int) -> None:
    """And the gradient is masked by it as by the results themselves, of any of the columns that begin with a byte."""
    for kernels in both:
        maps, rows = drawn(count, length)
        maps[1][0, 3], maps[2][0, 5] = float("nan"), -2.0
        rows[1][7], maps[2][0, 7] = 0.0, -0.0
        maps[1][0, 7] = 0.0  # a sum that is 0 itself
        marked, alone, bits = (
            maps[3].clone(),
            maps[3].clone(),
            torch.full((count * length // 8,), 255, dtype=torch.uint8),
        )
        place = LIKE[BF16], (count, length), *rows[:2]
        kernels["marked_sum"](*addresses([maps[1], maps[2], marked, bits]), *place)
        kernels["write"](*addresses([*maps[:3], alone]), LIKE[BF16], (count, length, length), tuple(rows[:4]), 1, True)
        assert torch.equal(marked.view(torch.int16), alone.view(torch.int16))
        assert torch.equal(bits, bits_of(alone))
        for first in range(0, length, 16 if length < 100 else 512):
            columns, begin = min(512, length - first), [2 * first] * 4
            centre, masks = rows[2][first:].copy(), [torch.full_like(marked, 7.0) for _ in range(2)]
            at = [a + b for a, b in zip(addresses([maps[0], maps[1], alone, masks[0]]), begin, strict=True)]
            expected = kernels["sums"](*at, LIKE[BF16], (count, length, columns), centre, rows[0], rows[1], 3)
            own = at[0], at[1], bits.data_ptr() + first // 8, masks[1].data_ptr() + 2 * first
            sums = kernels["marked_block"](*own, LIKE[BF16], (count, length, columns), centre)
            for one, other in zip(sums, expected, strict=True):
                np.testing.assert_array_equal(one, other)
            assert torch.equal(masks[0].view(torch.int16), masks[1].view(torch.int16))


@pytest.mark.parametrize(("width", "marked"), [(48, True), (40, False)])
@pytest.mark.parametrize("dtype", [BF16, torch.float32])
def test_a_bit_is_kept_instead_of_a_result(taken: None, width: int, marked: bool, dtype: torch.dtype) -> None:
    """In bf16, of channels that fill vectors; gradients are the same as those by the result."""
    norm = FusedBatchNorm2d(width)
    generator = torch.Generator().manual_seed(2)
    x, shortcut, grad = (
        torch.randn(6, width, 5, 5, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)
        for _ in range(3)
    )
    sizes = list[tuple[torch.dtype, int]]()

    def noted(tensor: Tensor) -> Tensor:
        sizes.append((tensor.dtype, tensor.numel()))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(noted, lambda tensor: tensor):
        own, other = x.clone().requires_grad_(), shortcut.clone().requires_grad_()
        out = norm.added(own, other, torch.nn.ReLU())
    out.backward(grad)
    bits = (torch.uint8, x.numel() // 8)
    assert (bits in sizes) == (marked and dtype == BF16)
    assert sizes.count((dtype, x.numel())) == (1 if bits in sizes else 2)
    assert other.grad is not None
    assert torch.equal(other.grad, torch.where(out.detach() == 0, torch.zeros_like(grad), grad))


@pytest.mark.parametrize(("usable", "dtype"), [(True, BF16), (True, torch.float32), (False, BF16)], ids=str)
def test_which_loops_are_taken(usable: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norm_vectors, "USABLE", usable)
    expected = norm_vectors if usable and dtype == BF16 else norm_kernels
    assert norm_threads.loops_of(LIKE[dtype]) is expected
