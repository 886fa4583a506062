"""Global pooling to mean and maximum: both passes of our kernels beside timm's, and where they are taken."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from timm.layers.adaptive_avgmax_pool import AdaptiveCatAvgMaxPool2d
from torch import Tensor, nn

from barlowctl.kernels import thread_team
from barlowctl.model.cpu import fused_pooling
from barlowctl.model.cpu.fused_blocks import choose_norms, prepare_norms
from barlowctl.model.cpu.fused_pooling import FusedCatAvgMaxPool2d

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


def both_ways(pooling: nn.Module, x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = pooling(x)
    (of_x,) = torch.autograd.grad(out, x, grad)
    return out.detach(), of_x


def drawn(dtype: torch.dtype, shape: tuple[int, int, int, int] = (6, 20, 3, 5)) -> tuple[Tensor, Tensor]:
    """A map behind a ReLU, so that maxima are often equal, and a gradient."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).relu().mul(4).round().div(4).to(dtype)
    return x.contiguous(memory_format=torch.channels_last), torch.randn(
        shape[0], 2 * shape[1], 1, 1, generator=generator
    ).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(6, 20, 3, 5), (3, 40, 1, 1), (2, 7, 9, 2)], ids=str)
def test_it_is_timms_pooling(dtype: torch.dtype, shape: tuple[int, int, int, int]) -> None:
    """Maxima and where their gradient goes to the bit; means, and sums of both gradients, rounded once."""
    x, grad = drawn(dtype, shape)
    (out, of_x), (theirs, of_theirs) = (
        both_ways(pooling, x, grad) for pooling in (FusedCatAvgMaxPool2d(), AdaptiveCatAvgMaxPool2d())
    )
    assert out.dtype == of_x.dtype == dtype
    assert out.shape == theirs.shape
    assert of_x.is_contiguous(memory_format=torch.channels_last)
    width = shape[1]
    assert torch.equal(out[:, width:], theirs[:, width:])
    exact, of_exact = both_ways(AdaptiveCatAvgMaxPool2d(), x.double(), grad.double())
    for made, true, others in ((out, exact, theirs), (of_x, of_exact, of_theirs)):
        rounded = true.float().to(dtype)
        torch.testing.assert_close(made, rounded, atol=1e-6 if dtype == torch.float32 else 0, rtol=1e-6)
        assert (made.double() - true).abs().max() <= (others.double() - true).abs().max() + 1e-7


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_no_number_is_the_mean_and_the_maximum_of_its_channel(dtype: torch.dtype) -> None:
    x, grad = drawn(dtype)
    x[1, 2, 0, 3] = x[1, 2, 2, 1] = x[4, 5, 1, 1] = float("nan")
    x[3] = float("-inf")
    made, theirs = (both_ways(pooling, x, grad) for pooling in (FusedCatAvgMaxPool2d(), AdaptiveCatAvgMaxPool2d()))
    for one, other in zip(made, theirs, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)
    assert int(made[0].isnan().sum()) == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_it_is_the_same_on_any_number_of_threads(dtype: torch.dtype) -> None:
    if thread_team.address() is None:
        pytest.skip("torch's threads are not to be had here")
    x, grad = drawn(dtype, (37, 64, 4, 4))
    expected = both_ways(FusedCatAvgMaxPool2d(), x, grad)
    for threads in (2, 5):
        torch.set_num_threads(threads)
        assert all(map(torch.equal, both_ways(FusedCatAvgMaxPool2d(), x, grad), expected))


@pytest.mark.parametrize("changed", ["nothing", "evaluation", "format", "dtype", "no images", "windows", "no team"])
def test_where_it_is_taken(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    apply = fused_pooling._CatAvgMax.apply
    monkeypatch.setattr(fused_pooling._CatAvgMax, "apply", lambda x: (taken.append(1), apply(x))[1])
    pooling = FusedCatAvgMaxPool2d(2 if changed == "windows" else 1)
    x = torch.randn(0 if changed == "no images" else 2, 8, 4, 4)
    x = x if changed == "format" else x.contiguous(memory_format=torch.channels_last)
    x = x.double() if changed == "dtype" else x
    if changed == "evaluation":
        pooling.eval()
    if changed == "no team":
        monkeypatch.setattr(thread_team, "address", lambda: None)
        torch.set_num_threads(2)
    out = pooling(x)
    assert torch.equal(out[:, 8:], AdaptiveCatAvgMaxPool2d(pooling.output_size)(x)[:, 8:])
    assert taken == ([1] if changed == "nothing" else [])


def test_a_networks_pooling_is_chosen_on_a_cpu_and_nothing_else_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    network = timm.create_model("resnet10t", num_classes=0, global_pool="catavgmax")
    plain = copy.deepcopy(network)
    choose_norms(network, torch.device("cuda"))
    assert type(network.global_pool.pool) is AdaptiveCatAvgMaxPool2d
    choose_norms(network, CPU)
    assert type(network.global_pool.pool) is FusedCatAvgMaxPool2d
    assert list(network.state_dict()) == list(plain.state_dict())
    x = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(network.train()(x), plain.train()(x), atol=1e-4, rtol=1e-4)
    prepared: list[torch.dtype] = []
    apply = fused_pooling._CatAvgMax.apply
    monkeypatch.setattr(fused_pooling._CatAvgMax, "apply", lambda x: (prepared.append(x.dtype), apply(x))[1])
    prepare_norms(plain, torch.float32)
    prepare_norms(network, torch.bfloat16)
    assert prepared == [torch.bfloat16]
