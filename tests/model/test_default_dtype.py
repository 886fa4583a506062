"""What torch makes tensors of by default changes nothing in our kernels' results: a caller may train in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from barlowctl.model.cpu import fused_attention
from barlowctl.model.cpu.depthwise import choose_depthwise
from barlowctl.model.cpu.fused_blocks import choose_norms
from barlowctl.model.cpu.product_convolution import choose_convolutions
from barlowctl.model.cpu.product_linear import choose_linears

CPU = torch.device("cpu")
NETWORKS = {
    "batch norm": lambda: nn.BatchNorm2d(64),
    "1 x 1": lambda: nn.Conv2d(64, 64, 1, bias=False),
    "1 x 1, of one piece": lambda: nn.Conv2d(64, 192, 1, bias=False),
    "3 x 3": lambda: nn.Conv2d(64, 64, 3, padding=1, bias=False),
    "3 x 3 with a stride": lambda: nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False),
    "depthwise": lambda: nn.Conv2d(64, 64, 5, stride=2, padding=2, groups=64, bias=False),
}


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)


def trained(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """The result, and the gradients of x and of the weight."""
    own = x.clone(memory_format=torch.preserve_format).requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(own)
    out.backward(torch.linspace(-1.0, 1.0, out.numel(), dtype=out.dtype).view(out.shape))
    return [out.detach(), own.grad, layer.weight.grad.clone()]


@pytest.mark.parametrize("name", NETWORKS)
def test_results_are_the_same(name: str) -> None:
    torch.manual_seed(0)
    layer = NETWORKS[name]().to(memory_format=torch.channels_last)
    network = nn.Sequential(layer)
    choose_convolutions(network, CPU)
    choose_depthwise(network)
    choose_norms(network, CPU)
    assert type(layer) not in (nn.Conv2d, nn.BatchNorm2d)
    x = torch.randn(32, 64, 6, 6).bfloat16().contiguous(memory_format=torch.channels_last)
    expected = trained(layer, x)
    torch.set_default_dtype(torch.float64)
    assert all(map(torch.equal, expected, trained(layer, x)))


@pytest.mark.parametrize("bias", [True, False])
def test_results_of_a_linear_are_the_same(bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(64, 96, bias=bias)
    choose_linears(layer, CPU)
    assert type(layer) is not nn.Linear
    x = torch.randn(5, 40, 64).bfloat16()
    expected = trained(layer, x)
    torch.set_default_dtype(torch.float64)
    assert all(map(torch.equal, expected, trained(layer, x)))


@pytest.mark.usefixtures("multiplies_bf16")
def test_results_of_attention_are_the_same() -> None:
    x = torch.randn(2, 2, 40, 32).bfloat16().requires_grad_()

    def results() -> list[Tensor]:
        out = fused_attention.attend(x, x, x, 0.2)
        return [out.detach(), *torch.autograd.grad(out.float().square().sum(), x)]

    expected = results()
    torch.set_default_dtype(torch.float64)
    assert all(map(torch.equal, expected, results()))
