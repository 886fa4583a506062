"""Convolutions of maps so small that taps of the kernel see padding alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from barlowctl.model.product_convolution import choose_convolutions
from barlowctl.model.seen_taps import seen

CPU = torch.device("cpu")
SIZES = (1, 2, 3)
KERNELS = (3, 5, 7)


def leave_no_number_in_memory() -> None:
    """Freed memory is what the next tensors get: where nothing is written to them, this stands."""
    for _ in range(12):
        [torch.full((count,), float("nan")) for count in (64, 576, 1024, 4096, 65_536, 300_000)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_seen_taps_are_those_that_see_a_pixel(size: int, kernel: int, stride: int) -> None:
    padding = kernel // 2
    results = (size + 2 * padding - kernel) // stride + 1
    pixels = [{result * stride - padding + tap for result in range(results)} for tap in range(kernel)]
    assert list(seen(size, kernel, stride, padding)) == [tap for tap in range(kernel) if pixels[tap] & set(range(size))]


@pytest.mark.parametrize("groups", [1, 32])
@pytest.mark.parametrize("channels", [32, 128])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("bias", [False, True])
def test_gradients_in_bf16_are_those_of_float64(
    channels: int, groups: int, layout: torch.memory_format, bias: bool
) -> None:
    """Those of taps that see nothing are zeros, and not what lay in memory."""
    for size, kernel, stride in ((size, kernel, stride) for size in SIZES for kernel in KERNELS for stride in (1, 2)):
        torch.manual_seed(size)
        layer = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=groups, bias=bias)
        layer = layer.to(memory_format=layout)
        exact = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=groups, bias=bias).double()
        exact.load_state_dict({name: value.bfloat16().double() for name, value in layer.state_dict().items()})
        choose_convolutions(layer, CPU)
        x = torch.randn(8, channels, size, size).bfloat16().float().to(memory_format=layout).requires_grad_()
        twin = x.detach().double().requires_grad_()
        leave_no_number_in_memory()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = layer(x)
        expected = exact(twin)
        weights = torch.linspace(-1.0, 1.0, out.numel()).bfloat16().view(out.shape)
        out.backward(weights)
        expected.backward(weights.double())
        pairs = [(out.detach(), expected.detach()), (x.grad, twin.grad)]
        pairs += [(ours.grad, theirs.grad) for ours, theirs in zip(layer.parameters(), exact.parameters(), strict=True)]
        for ours, theirs in pairs:
            assert ours is not None
            assert theirs is not None
            where = (size, kernel, stride, channels, groups)
            assert ours.double().isfinite().all(), where
            assert (ours.double() - theirs).abs().max() <= 0.02 * theirs.abs().max(), where
