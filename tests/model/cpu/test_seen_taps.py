"""Convolutions of maps so small that taps of the kernel see padding alone."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from timm.layers import CondConv2d, Conv2dSame, MixedConv2d, ScaledStdConv2d, StdConv2d
from timm.layers.lambda_layer import LambdaLayer
from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2dSame
from torch import Tensor, nn

from barlowctl.model.cpu.product_convolution import choose_convolutions
from barlowctl.model.cpu.seen_taps import leave_out_unseen_taps, seen

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
    assert list(seen(size, kernel, results, stride, padding)) == [
        tap for tap in range(kernel) if pixels[tap] & set(range(size))
    ]


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


class Functional(nn.Module):
    """Calls torch's function with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(32, 32, 7, 7) / 40)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight, stride=2, padding=3)


class Inherited(nn.Conv2d):
    """torch's, under another name."""


class Routed(CondConv2d):
    """With the same share of each expert for every image."""

    def forward(self, x: Tensor, routing_weights: Tensor | None = None) -> Tensor:
        out: Tensor = super().forward(x, torch.full((len(x), self.num_experts), 0.25, dtype=x.dtype))
        return out


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "dilated": lambda: nn.Conv2d(32, 32, 3, padding=4, dilation=4),
    "dilated with a stride": lambda: nn.Conv2d(32, 32, 5, stride=2, padding=4, dilation=2),
    "same": lambda: nn.Conv2d(32, 32, 7, padding="same"),
    "same, of an even side": lambda: nn.Conv2d(32, 32, 4, padding="same"),
    "circular": lambda: nn.Conv2d(32, 32, 7, padding=3, padding_mode="circular"),
    "inherited": lambda: Inherited(32, 32, 7, stride=2, padding=3),
    "functional": Functional,
    "standardised": lambda: StdConv2d(32, 32, 7, stride=2, padding=3, eps=1e-2),
    "standardised and scaled": lambda: ScaledStdConv2d(32, 32, 7, stride=2, padding=3, eps=1e-2),
    "TensorFlow's": lambda: Conv2dSame(32, 32, 7, stride=2),
    "TensorFlow's, standardised": lambda: StdConv2dSame(32, 32, 7, stride=2, padding="SAME", eps=1e-2),
    "TensorFlow's, scaled": lambda: ScaledStdConv2dSame(32, 32, 7, stride=2, padding="SAME", eps=1e-2),
    "of experts": lambda: Routed(32, 32, 7, stride=2, padding=3, num_experts=4),
    "of several sides": lambda: MixedConv2d(32, 32, [3, 5, 7], stride=2),
    "lambda": lambda: LambdaLayer(32, 32, dim_head=4, num_heads=4, r=9),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("size", [1, 2])
def test_all_other_convolutions_go_without_them_too(name: str, size: int) -> None:
    """Of timm's layers, torch's other arguments, and modules that call torch's function."""
    if name == "circular" and size < 3:
        size = 4
    torch.manual_seed(size)
    layout = torch.contiguous_format if name in ("lambda", "of experts") else torch.channels_last
    layer = LAYERS[name]().to(memory_format=layout)
    exact, before = copy.deepcopy(layer).double(), copy.deepcopy(layer)
    choose_convolutions(layer, CPU)
    assert type(layer).__name__ in (type(exact).__name__, "SeenTaps")
    assert type(copy.deepcopy(layer)) is type(layer)
    x = torch.randn(16, 32, size, size).bfloat16().float().to(memory_format=layout).requires_grad_()
    twin = x.detach().double().requires_grad_()
    leave_no_number_in_memory()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, of_torch = layer(x), before(x.detach())
    expected = exact(twin)
    weights = torch.linspace(-1.0, 1.0, out.numel()).bfloat16().view(out.shape)
    out.backward(weights.to(out.dtype))
    of_torch.backward(weights.to(of_torch.dtype))
    expected.backward(weights.double())
    pairs = [("out", out.detach(), expected.detach()), ("x", x.grad, twin.grad)]
    for (parameter, ours), theirs in zip(layer.named_parameters(), exact.parameters(), strict=True):
        pairs.append((parameter, ours.grad, theirs.grad))
    for what, ours, theirs in pairs:
        assert ours is not None
        assert theirs is not None
        assert ours.isfinite().all(), what
        most = 0.05 * theirs.abs().max() + 1e-3
        if what == "bias":  # a sum of what comes in, no taps: torch adds it up in bfloat16 where it has no AVX-512
            most = max(most, (before.bias.grad.double() - theirs).abs().max())
        assert (ours.double() - theirs).abs().max() <= most, what
    plain = exact.float()
    plain.load_state_dict(layer.state_dict())
    assert torch.equal(layer.eval()(x), plain.eval()(x))


def test_chosen_twice_is_chosen_once() -> None:
    layer = nn.Sequential(StdConv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=2))
    leave_out_unseen_taps(layer.modules())
    kinds = [type(part) for part in layer]
    leave_out_unseen_taps(layer.modules())
    assert [type(part) for part in layer] == kinds


@pytest.mark.parametrize(
    "backbone", ["resnetv2_50", "nf_resnet26", "tf_efficientnet_cc_b0_4e", "mixnet_s", "tf_efficientnet_b0"]
)
def test_gradients_of_such_networks_are_finite(backbone: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(backbone, num_classes=0).to(memory_format=torch.channels_last)
    choose_convolutions(network, CPU)
    x = torch.randn(4, 3, 32, 32).to(memory_format=torch.channels_last)
    leave_no_number_in_memory()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = network(x)
    out.float().square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
