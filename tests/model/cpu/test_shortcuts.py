"""Blocks whose shortcut is their input, or sees a quarter of its pixels: both gradients, met in place."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from timm.models.resnet import BasicBlock, Bottleneck, downsample_conv
from torch import Tensor, nn

from barlowctl import processor
from barlowctl.model.cpu import fused_blocks, shortcuts, tile_products, tile_rows
from barlowctl.model.cpu.fused_blocks import choose_norms
from barlowctl.model.cpu.product_convolution import ProductConvolution, choose_convolutions
from barlowctl.model.cpu.shortcuts import begun, branches
from barlowctl.own_gradients import made_here

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
    return convolution(x), x if downsample is None else downsample(x)


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
    monkeypatch.setattr(fused_blocks, "begun", as_before)
    apart = trained(theirs, x, bf16=bf16)
    for name, true in made.items():
        error, before = ((of[name].double() - true).norm() for of in (met, apart))
        assert error <= 1.5 * before + 1e-6 * true.norm(), name


@pytest.mark.parametrize("channels", [32, 128])
def test_the_gradient_of_the_map_is_the_sum_to_the_bit(channels: int) -> None:
    convolution, downsample = ready(channels)
    x = map_of(channels, 9).requires_grad_()
    whole, shortcut = branches(x, convolution, downsample)
    of_whole, of_shortcut = map_of(channels, 9), map_of(4 * channels, 5)
    summed = of_whole.clone()
    torch.autograd.backward([whole, shortcut], [of_whole, of_shortcut])
    assert x.grad is not None

    seen = x.detach()[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last).requires_grad_()
    apart = downsample[1](downsample[0].of_seen_pixels(seen))  # type: ignore[operator]
    (of_seen,) = torch.autograd.grad(apart, seen, of_shortcut)
    summed[:, :, ::2, ::2] += of_seen
    assert torch.equal(shortcut, apart)
    assert torch.equal(x.grad, summed)


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


# ---- the shortcut is the block's input --------------------------------------------------------------------


@pytest.fixture
def fast_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor of Intel's, with tiles, wherever the tests run."""
    if not torch.backends.mkl.is_available():
        pytest.skip("torch was built without MKL")
    monkeypatch.setattr(processor, "is_intels", lambda: True)
    monkeypatch.setattr(tile_products, "is_usable", lambda: True)
    monkeypatch.setattr(tile_rows, "takes", lambda weight, x: False)  # what has been computed so needs such tiles


def same_sized(channels: int = 64) -> nn.Module:
    """A bottleneck of as many channels out as in."""
    torch.manual_seed(0)
    block = Bottleneck(4 * channels, channels).to(memory_format=torch.channels_last).train()
    choose_convolutions(block, CPU)
    choose_norms(block, CPU)
    return block


@pytest.mark.usefixtures("fast_products")
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("side", [1, 7, 12])
def test_a_block_on_its_input_is_as_near_to_float64(monkeypatch: pytest.MonkeyPatch, side: int, bf16: bool) -> None:
    torch.manual_seed(0)
    exact = Bottleneck(256, 64).double().train()
    ours, x = same_sized(), map_of(256, side)
    if bf16:
        x = x.bfloat16()
    ours.load_state_dict(exact.state_dict())
    theirs = copy.deepcopy(ours)
    beside, apply = list[torch.dtype](), shortcuts._Beside.apply
    monkeypatch.setattr(shortcuts._Beside, "apply", lambda x, w: (beside.append(w.dtype), apply(x, w))[1])
    met, made = trained(ours, x, bf16=bf16), trained(exact, x.double())
    assert beside == [torch.float32]
    assert met["conv1.weight"].dtype == torch.float32
    monkeypatch.setattr(fused_blocks, "begun", as_before)
    apart = trained(theirs, x, bf16=bf16)
    for name, true in made.items():
        error, before = ((of[name].double() - true).norm() for of in (met, apart))
        assert error <= 1.5 * before + 1e-6 * true.norm(), name


def met_at(shortcut_of: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The gradient of a shortcut that `shortcut_of` makes, and that of the block's input, of one backward pass."""
    convolution, x = same_sized().get_submodule("conv1"), map_of(256, 6).requires_grad_()
    out, shortcut = begun(x * 1.0, convolution, None)
    given = list[Tensor]()

    class Given(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, shortcut: Tensor) -> Tensor:
            return shortcut.clone()

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> Tensor:
            given.append(shortcut_of(grad))
            return given[0]

    (out.sum() + (3.0 * Given.apply(shortcut)).sum()).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    expected = 3.0 + convolution.weight.detach().sum(dim=0).view(1, -1, 1, 1)
    torch.testing.assert_close(x.grad, expected.expand_as(x).contiguous(memory_format=torch.channels_last))
    return given[0], x.grad


@pytest.mark.usefixtures("fast_products")
def test_the_product_adds_to_a_gradient_that_was_made_for_the_shortcut() -> None:
    def own(grad: Tensor) -> Tensor:
        made = grad.clone(memory_format=torch.channels_last)
        made_here(made)
        return made

    given, sums = met_at(own)
    assert torch.equal(given, sums)  # it was written over


@pytest.mark.usefixtures("fast_products")
def test_a_shortcuts_gradient_that_others_hold_is_left_alone() -> None:
    given, _ = met_at(lambda grad: grad.clone(memory_format=torch.channels_last))
    assert bool((given == 3.0).all())


@pytest.mark.usefixtures("fast_products")
def test_the_last_batch_norm_makes_the_gradient_of_the_shortcut(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that in a block nothing is copied."""
    block, copied = same_sized(), list[torch.Size]()
    clone = Tensor.clone
    monkeypatch.setattr(Tensor, "clone", lambda x, **how: copied.append(x.shape) or clone(x, **how))
    (block(map_of(256, 6).requires_grad_() * 1.0)).sum().backward()
    assert copied == []


@pytest.mark.usefixtures("fast_products")
def test_either_branch_of_a_block_on_its_input_may_have_no_gradient() -> None:
    convolution = same_sized().get_submodule("conv1")
    for which in (0, 1):
        x, y = map_of(256, 6).requires_grad_(), map_of(256, 6).requires_grad_()
        begun(x, convolution, None)[which].sum().backward()
        (convolution(y), y)[which].sum().backward()
        torch.testing.assert_close(x.grad, y.grad)


@pytest.mark.usefixtures("fast_products")
@pytest.mark.parametrize(
    "why", ["a hook", "evaluation", "no gradient", "another format", "few channels", "autocast", "no tiles", "AMD"]
)
def test_a_block_on_its_input_is_torchs_where_that_is_faster(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    convolution = same_sized(8 if why == "few channels" else 64).get_submodule("conv1")
    x = map_of(convolution.in_channels, 12).requires_grad_()  # type: ignore[arg-type]
    if why == "a hook":
        convolution.register_forward_hook(lambda module, inputs, out: None)
    elif why == "evaluation":
        convolution.eval()
    elif why == "no gradient":
        x = x.detach()
    elif why == "another format":
        x = x.detach().contiguous().requires_grad_()
    elif why == "AMD":
        monkeypatch.setattr(processor, "is_intels", lambda: False)
    elif why == "no tiles":
        x = x.detach().bfloat16().requires_grad_()
        monkeypatch.setattr(tile_products, "is_usable", lambda: False)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=why in ("autocast", "no tiles")):
        out, shortcut = begun(x, convolution, None)
    assert shortcut is x
    assert "Beside" not in type(out.grad_fn).__name__
