"""1 x 1 convolutions with a stride, of few channels in channels_last: torch's own end the process in most of these."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.layers.std_conv import StdConv2d
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from barlowctl.model.cpu.product_convolution import choose_convolutions
from barlowctl.model.cpu.strided_pointwise import take_seen_pixels_first

CPU = torch.device("cpu")
LAYERS: dict[str, Callable[[], nn.Conv2d]] = {
    "plain": lambda: nn.Conv2d(3, 48, 1, stride=2, bias=False),
    "with a bias": lambda: nn.Conv2d(12, 16, 1, stride=2),
    "standardised weights": lambda: StdConv2d(4, 16, 1, stride=2),
    "two strides": lambda: nn.Conv2d(15, 8, 1, stride=(4, 2), bias=False),
}


class Convolutions(TorchDispatchMode):
    """Notes the strides of what torch computes as a convolution."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.strides: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.strides.append(tuple(args[3]))
        return func(*args, **(kwargs or {}))


def by_channels(size: int, channels: int) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(8, channels, size, size).bfloat16().float().to(memory_format=torch.channels_last)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_no_stride_is_left_to_torch(name: str, training: bool, bf16: bool) -> None:
    """Looked at where nothing is computed, which would end the process if it is not so."""
    layer = LAYERS[name]().train(training)
    channels = layer.in_channels
    choose_convolutions(layer, CPU)
    noted = Convolutions()
    x = by_channels(12, channels)
    with noted, torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        layer(x)
    assert set(noted.strides) <= {(1, 1)}


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_results_and_gradients_are_those_of_float64(name: str, bf16: bool) -> None:
    torch.manual_seed(1)
    layer = LAYERS[name]().to(memory_format=torch.channels_last)
    exact = copy.deepcopy(layer).double()
    choose_convolutions(layer, CPU)
    x = by_channels(112, layer.in_channels).requires_grad_()
    twin = x.detach().double().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        out = layer(x)
    with torch.backends.mkldnn.flags(enabled=False, allow_tf32=None):
        expected = exact(twin)
        weights = torch.linspace(-1.0, 1.0, out.numel()).bfloat16().view(out.shape)
        expected.backward(weights.double())
    out.backward(weights.to(out.dtype))
    assert out.shape == expected.shape
    pairs = [("out", out, expected), ("x", x.grad, twin.grad)]
    pairs += [(name, ours.grad, dict(exact.named_parameters())[name].grad) for name, ours in layer.named_parameters()]
    for what, ours, theirs in pairs:
        assert (ours.double() - theirs).abs().max() <= (2e-2 if bf16 else 1e-5) * theirs.abs().max(), what


def test_a_copy_has_the_stride() -> None:
    layer = nn.Conv2d(3, 4, 1, stride=2)
    take_seen_pixels_first([layer])
    twin = copy.deepcopy(layer)
    x = torch.randn(1, 3, 5, 5)
    assert twin(x).shape == (1, 4, 3, 3)
    assert torch.equal(twin(x), layer(x))


def test_chosen_twice_is_chosen_once() -> None:
    layer = nn.Conv2d(3, 4, 1, stride=2)
    take_seen_pixels_first([layer])
    kind = type(layer)
    take_seen_pixels_first([layer])
    assert type(layer) is kind
    assert layer(torch.randn(1, 3, 8, 8)).shape == (1, 4, 4, 4)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(16, 4, 1, stride=2), nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1, 2, groups=4)],
)
def test_others_stay_as_they_are(layer: nn.Conv2d) -> None:
    take_seen_pixels_first([layer])
    assert type(layer) is nn.Conv2d
