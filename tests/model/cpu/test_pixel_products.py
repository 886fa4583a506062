"""Convolutions of small maps as products for each pixel: that they are the convolution, and where they are taken."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from barlowctl.model.cpu import pixel_products
from barlowctl.model.cpu.product_convolution import choose_convolutions

CPU = torch.device("cpu")
SHAPES = [
    # height, width, kernel, stride, padding
    (3, 3, (3, 3), (2, 2), (1, 1)),
    (5, 5, (3, 3), (2, 2), (1, 1)),
    (8, 8, (3, 3), (2, 2), (1, 1)),
    (2, 2, (3, 3), (1, 1), (1, 1)),
    (1, 1, (3, 3), (1, 1), (1, 1)),
    (4, 3, (3, 3), (1, 1), (1, 1)),
    (7, 6, (5, 5), (2, 2), (2, 2)),
    (6, 9, (3, 5), (2, 3), (0, 2)),
    (4, 4, (2, 2), (2, 2), (0, 0)),
    (5, 7, (1, 1), (2, 2), (0, 0)),
    (2, 3, (7, 7), (1, 1), (3, 3)),
]


def in_channels_last(*size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    made = torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return made.to(dtype).contiguous(memory_format=torch.channels_last)


def results(convolution: nn.Conv2d, x: Tensor) -> list[Tensor]:
    """Output, gradient of x and gradient of the weight of a loss that weighs every value differently."""
    convolution.zero_grad()
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = convolution(x)
    (out.double() * torch.linspace(-1.0, 1.0, out.numel(), dtype=torch.float64).view(out.shape)).sum().backward()
    assert x.grad is not None
    assert convolution.weight.grad is not None
    return [out.detach(), x.grad, convolution.weight.grad.clone()]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("part", [False, True], ids=["", "of a larger tensor"])
def test_it_is_the_convolution(shape: tuple[int, int, tuple[int, int], tuple[int, int], tuple[int, int]], part: bool):
    height, width, kernel, stride, padding = shape
    x, weight = in_channels_last(8 if part else 5, 6, height, width), in_channels_last(4, 6, *kernel)
    x = (x[3:] if part else x).detach().requires_grad_()  # its memory begins elsewhere
    weight.requires_grad_()
    expected = nn.functional.conv2d(x, weight, None, stride, padding)
    out = pixel_products.convolve(x, weight, stride, padding)
    assert out.stride() == expected.stride()
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=0)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    theirs = torch.autograd.grad(expected, (x, weight), grad)
    for of_ours, of_theirs in zip(torch.autograd.grad(out, (x, weight), grad), theirs, strict=True):
        assert of_ours.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(of_ours, of_theirs, atol=1e-12, rtol=0)


def test_a_gradient_that_nobody_needs_is_not_computed() -> None:
    x, weight = in_channels_last(3, 2, 3, 3), in_channels_last(4, 2, 3, 3).requires_grad_()
    pixel_products.convolve(x, weight, (2, 2), (1, 1)).sum().backward()
    assert x.grad is None
    assert weight.grad is not None


def test_weights_in_another_memory_format_are_taken() -> None:
    x = in_channels_last(3, 2, 3, 3)
    weight = in_channels_last(4, 2, 3, 3)
    torch.testing.assert_close(
        pixel_products.convolve(x, weight.contiguous(), (2, 2), (1, 1)),
        pixel_products.convolve(x, weight, (2, 2), (1, 1)),
        atol=0,
        rtol=0,
    )


def layer(channels: int, kernel: int, stride: int, padding: int) -> nn.Conv2d:
    torch.manual_seed(0)
    made = nn.Conv2d(channels, channels, kernel, stride, padding, bias=False)
    return made.to(memory_format=torch.channels_last)


@pytest.mark.parametrize(("side", "stride"), [(3, 2), (5, 2), (8, 2), (2, 1)])
@pytest.mark.usefixtures("on_intel")
def test_in_fp32_it_is_as_exact_as_torchs(side: int, stride: int) -> None:
    convolution, x = layer(64, 3, stride, 1), in_channels_last(32, 64, side, side, dtype=torch.float32)
    exact = results(copy.deepcopy(convolution).double(), x.double())
    before = results(convolution, x)
    choose_convolutions(convolution, CPU)
    assert node(convolution, x) == "_ForEachPixelBackward"
    for truth, torchs, ours in zip(exact, before, results(convolution, x), strict=True):
        assert ours.dtype == torch.float32
        assert (ours - truth).norm() <= 1.5 * (torchs - truth).norm() + 1e-7 * truth.norm()


def node(convolution: nn.Conv2d, x: Tensor, enabled: bool = False) -> str:
    """What autograd calls the operation."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
        return type(convolution(x).grad_fn).__name__


@pytest.mark.parametrize(
    ("images", "channels", "kernel", "stride", "padding", "side", "taken"),
    [
        (32, 64, 3, 2, 1, 8, True),
        (32, 64, 3, 2, 1, 9, False),  # five pixels a side
        (31, 64, 3, 2, 1, 8, False),
        (32, 63, 3, 2, 1, 8, False),
        (32, 64, 3, 1, 1, 2, True),
        (32, 64, 3, 1, 1, 3, False),  # Winograd's
        (32, 64, 1, 2, 0, 4, False),
        (32, 64, 5, 2, 2, 7, True),
        (32, 64, 2, 2, 2, 2, False),  # corners see padding alone
        (32, 64, 2, 2, 1, 3, True),
    ],
)
@pytest.mark.usefixtures("on_intel")
def test_only_those_are_taken_that_were_measured_to_be_faster(
    images: int, channels: int, kernel: int, stride: int, padding: int, side: int, taken: bool
) -> None:
    convolution = layer(channels, kernel, stride, padding)
    x = in_channels_last(images, channels, side, side, dtype=torch.float32)
    choose_convolutions(convolution, CPU)
    assert (node(convolution, x) == "_ForEachPixelBackward") == taken
    assert node(convolution, x, enabled=True) != "_ForEachPixelBackward"
    assert node(convolution, x.contiguous()) == "ConvolutionBackward0"
    assert node(convolution.eval(), x) != "_ForEachPixelBackward"


@pytest.mark.usefixtures("on_amd")
def test_elsewhere_it_is_not_taken() -> None:
    convolution, x = layer(64, 3, 2, 1), in_channels_last(32, 64, 3, 3, dtype=torch.float32)
    choose_convolutions(convolution, CPU)
    assert node(convolution, x) == "ConvolutionBackward0"
