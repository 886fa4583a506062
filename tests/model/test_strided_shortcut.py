"""A block whose shortcut sees a quarter of its pixels: the gradients of both branches, met in place."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from timm.models.resnet import BasicBlock, Bottleneck, downsample_conv
from torch import Tensor, nn

from barlowctl.model import fused_norm
from barlowctl.model.fused_norm import choose_norms
from barlowctl.model.product_convolution import ProductConvolution, choose_convolutions
from barlowctl.model.strided_shortcut import branches

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")
Branches = Callable[[Tensor, nn.Module, nn.Module | None], tuple[Tensor, Tensor]]


def block_of(kind: type[BasicBlock | Bottleneck], channels: int, stride: int) -> nn.Module:
    torch.manual_seed(0)
    out = channels * kind.expansion
    block = kind(channels, channels, stride, downsample_conv(channels, out, 1, stride=stride))
    return block.to(memory_format=torch.channels_last).train()


def map_of(channels: int, side: int, images: int = 6) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(images, channels, side, side).to(memory_format=torch.channels_last)


def as_before(x: Tensor, convolution: nn.Module, downsample: nn.Module | None) -> tuple[Tensor, Tensor]:
    assert downsample is not None
    return x, downsample(x)


def trained(block: nn.Module, x: Tensor, *, bf16: bool = False) -> dict[str, Tensor]:
    """The result, and all gradients, of a loss of it."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        out = block(x * 1.0)  # a map that something computed, as a block's is
    out.double().square().mean().backward()
    assert x.grad is not None
    of = {name: p.grad for name, p in block.named_parameters() if p.grad is not None}
    assert len(of) == len(list(block.parameters()))
    return {"result": out.detach(), "of x": x.grad, **of}


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("side", [1, 2, 7, 8, 20])
@pytest.mark.parametrize("channels", [8, 32, 128])
@pytest.mark.parametrize("kind", [BasicBlock, Bottleneck])
def test_results_are_those_of_both_branches(
    monkeypatch: pytest.MonkeyPatch, kind: type[BasicBlock | Bottleneck], channels: int, side: int, bf16: bool
) -> None:
    """As near to float64 as the block without it, on odd sides, too, and on maps of one pixel."""
    ours, x = block_of(kind, channels, 2), map_of(channels, side)
    exact = copy.deepcopy(ours).double()
    choose_convolutions(ours, CPU)
    choose_norms(ours, CPU)
    theirs = copy.deepcopy(ours)
    met, made = trained(ours, x, bf16=bf16), trained(exact, x.double())
    monkeypatch.setattr(fused_norm, "branches", as_before)
    apart = trained(theirs, x, bf16=bf16)
    for name, true in made.items():
        error, before = ((of[name].double() - true).norm() for of in (met, apart))
        assert error <= 1.5 * before + 1e-6 * true.norm(), name


@pytest.mark.parametrize("channels", [32, 128])
def test_the_gradient_of_the_map_is_the_sum_to_the_bit(monkeypatch: pytest.MonkeyPatch, channels: int) -> None:
    ours, x = block_of(Bottleneck, channels, 2), map_of(channels, 9)
    choose_convolutions(ours, CPU)
    choose_norms(ours, CPU)
    theirs = copy.deepcopy(ours)
    met = trained(ours, x)
    monkeypatch.setattr(fused_norm, "branches", as_before)
    assert all(torch.equal(value, met[name]) for name, value in trained(theirs, x).items())


def ready(channels: int = 32) -> tuple[ProductConvolution, nn.Sequential]:
    """A first convolution and a shortcut, of a block that is computed here."""
    block = block_of(Bottleneck, channels, 2)
    choose_convolutions(block, CPU)
    return block.get_submodule("conv1"), block.get_submodule("downsample")  # type: ignore[return-value]


def test_either_branch_may_have_no_gradient() -> None:
    convolution, downsample = ready()
    for which in (0, 1):
        x = map_of(32, 6).requires_grad_()
        parts = branches(x, convolution, downsample)
        parts[which].sum().backward()
        y = map_of(32, 6).requires_grad_()
        (y, downsample(y))[which].sum().backward()
        assert x.grad is not None
        assert y.grad is not None
        torch.testing.assert_close(x.grad, y.grad)


def test_a_gradient_that_others_hold_is_left_alone() -> None:
    """A sum passes the same tensor to both of its terms: it is no map in channels_last of its own, or it is copied."""
    convolution, downsample = ready()
    x = map_of(32, 6).requires_grad_()
    whole, shortcut = branches(x, convolution, downsample)
    held = torch.ones(6, 1, 1, 1).expand_as(whole)
    torch.autograd.backward([whole, shortcut], [held, torch.ones_like(shortcut)])
    assert bool((held == 1.0).all())


@pytest.mark.parametrize(
    "why",
    [
        "a hook",
        "a hook of the other branch",
        "a hook of the shortcut",
        "evaluation",
        "no gradient",
        "another format",
        "no stride",
        "a larger kernel",
        "an average",
    ],
)
def test_all_else_goes_torchs_way(why: str) -> None:
    convolution, downsample = ready()
    x = map_of(32, 6).requires_grad_()
    shapes = list[torch.Size]()
    if why == "a hook":
        downsample[0].register_forward_hook(lambda module, inputs, out: shapes.append(inputs[0].shape))
    elif why == "a hook of the other branch":  # which may hold the gradient that it is given
        convolution.register_full_backward_hook(lambda module, of_inputs, of_result: None)
    elif why == "a hook of the shortcut":
        downsample.register_forward_hook(lambda module, inputs, out: None)
    elif why == "evaluation":
        downsample.eval()
    elif why == "no gradient":
        x = x.detach()
    elif why == "another format":
        x = x.detach().contiguous().requires_grad_()
    elif why == "no stride":
        downsample[0] = block_of(Bottleneck, 32, 1).get_submodule("downsample")[0]  # type: ignore[index]
    elif why == "a larger kernel":
        downsample[0] = nn.Conv2d(32, 128, 3, stride=2, padding=1, bias=False)
        choose_convolutions(downsample, CPU)
    else:
        downsample.insert(0, nn.AvgPool2d(2))
    whole, shortcut = branches(x, convolution, downsample)
    assert whole is x
    assert shapes == ([x.shape] if why == "a hook" else [])
    assert len(shortcut) == len(x)


def test_a_network_takes_it_in_each_stage_but_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    network = timm.create_model("resnet26", num_classes=0, in_chans=3).to(memory_format=torch.channels_last).train()
    choose_convolutions(network, CPU)
    choose_norms(network, CPU)
    taken, of_seen = list[tuple[int, ...]](), ProductConvolution.of_seen_pixels

    def look(self: ProductConvolution, seen: Tensor) -> Tensor:
        taken.append((self.in_channels, *seen.shape[2:]))
        return of_seen(self, seen)

    monkeypatch.setattr(ProductConvolution, "of_seen_pixels", look)
    network(map_of(3, 64, images=2)).sum().backward()
    assert taken == [(256, 8, 8), (512, 4, 4), (1024, 2, 2)]
