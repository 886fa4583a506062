"""Convolutions of patches that do not overlap against float64, and where they are torch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from barlowctl.model.cpu import patch_convolution, tile_products, tile_rows
from barlowctl.model.cpu.patch_convolution import PatchConvolution
from barlowctl.model.cpu.product_convolution import choose_convolutions, prepare_convolutions

CPU, BF16 = torch.device("cpu"), torch.bfloat16
with_biases = pytest.mark.usefixtures("multiplies_bf16")
pytestmark = pytest.mark.usefixtures("one_thread")

KERNELS: list[Any] = [(32, 40, 1, (6, 6)), (20, 3, 1, (1, 1)), (16, 24, 2, (4, 6)), (3, 40, 4, (8, 12)),
                      (1, 8, (2, 3), (4, 9)), (3, 33, 16, (32, 32))]  # fmt: skip
"""Channels, results, kernel, and a map."""


def chosen(convolution: nn.Conv2d) -> nn.Conv2d:
    choose_convolutions(convolution.to(memory_format=torch.channels_last), CPU)
    return convolution.train()


def map_of(channels: int, size: tuple[int, int], images: int = 3) -> Tensor:
    x = torch.randn(images, channels, *size, generator=torch.Generator().manual_seed(channels))
    return x.to(BF16).to(memory_format=torch.channels_last).requires_grad_()


def assert_rounded_once(made: Tensor, true: Tensor) -> None:
    """Within one rounding to bf16, and the rounding of float32 sums where terms cancel."""
    assert ((made.double() - true).abs() <= true.abs() * 2.0**-8 + 2e-6 * true.abs().max()).all()


@with_biases
@pytest.mark.parametrize(("channels", "out", "kernel", "size"), KERNELS)
def test_it_is_the_convolution(channels: int, out: int, kernel: Any, size: tuple[int, int]) -> None:
    """Against float64: results and the map's gradient are rounded once, those of weight and bias are not."""
    torch.manual_seed(out)
    layer = chosen(nn.Conv2d(channels, out, kernel, kernel))
    assert type(layer) is PatchConvolution
    x = map_of(channels, size)
    with torch.autocast("cpu", dtype=BF16):
        y = layer(x)
    grad = torch.randn(y.shape).to(BF16)
    y.backward(grad)
    assert y.dtype == BF16
    assert y.is_contiguous(memory_format=torch.channels_last)
    true_x, weight = x.detach().double().requires_grad_(), layer.weight.detach().to(BF16).double().requires_grad_()
    bias = layer.bias.detach().double().requires_grad_()
    true = nn.functional.conv2d(true_x, weight, bias, layer.stride)
    true.backward(grad.double())
    assert x.grad is not None
    assert_rounded_once(y.detach(), true.detach())
    assert_rounded_once(x.grad, true_x.grad)
    for made, exact in ((layer.weight.grad, weight.grad), (layer.bias.grad, bias.grad)):
        assert made is not None
        assert exact is not None
        assert (made.shape, made.dtype) == (exact.shape, torch.float32)
        assert (made.double() - exact).norm() <= 1e-6 * exact.norm()


@with_biases
@pytest.mark.parametrize(
    "kind", ["as it is", "evaluation", "float32", "contiguous", "cut off", "a bias in bf16", "not usable"]
)
def test_where_it_is_torchs_own(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = chosen(nn.Conv2d(16, 8, 2, 2))
    x = map_of(16, (5, 6) if kind == "cut off" else (4, 6))
    calls: list[tuple[int, ...]] = []
    multiply = tile_rows.multiply

    def counted(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        calls.append(tuple(rows.shape))
        return multiply(rows, weight, bias)

    monkeypatch.setattr(tile_rows, "multiply", counted)
    match kind:
        case "evaluation":
            layer.eval()
        case "contiguous":
            x = x.detach().contiguous()
        case "a bias in bf16":
            layer.bias = nn.Parameter(layer.bias.detach().to(BF16))
        case "not usable":
            monkeypatch.setattr(tile_products, "is_usable", lambda: False)
    with torch.autocast("cpu", dtype=BF16, enabled=kind != "float32"):
        y = layer(x.float() if kind == "float32" else x)
    assert calls == ([(3 * 2 * 3, 64)] if kind == "as it is" else [])
    assert y.shape == (3, 8, 2, 3)


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(8, 8, 2, 2, bias=False),
        nn.Conv2d(8, 8, 2, 1),
        nn.Conv2d(8, 8, 2, (2, 1)),
        nn.Conv2d(8, 8, 2, 2, padding=1),
        nn.Conv2d(8, 8, 1, padding=1),
        nn.Conv2d(8, 8, 2, 2, groups=2),
        nn.Conv2d(8, 8, 2, 2, dilation=2),
    ],
)
def test_others_are_not_of_such_patches(convolution: nn.Conv2d) -> None:
    assert type(chosen(convolution)) is not PatchConvolution


def test_kernels_are_compiled_before_where_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(tile_rows, "prepare", lambda: calls.append("rows"))
    monkeypatch.setattr(patch_convolution.tile_products, "is_usable", lambda: True)
    layer = chosen(nn.Conv2d(16, 8, 2, 2))
    for precision in ("fp32", "bf16"):
        prepare_convolutions(layer, map_of(16, (4, 4)).detach().float(), precision)
    assert calls == ["rows"]
