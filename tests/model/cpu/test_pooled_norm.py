"""A stem's batch norm, ReLU and maximum pooling in one: that it computes what they do by themselves, and where."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from timm.layers import BlurPool2d
from timm.models.resnet import ResNet
from torch import Tensor, nn

from barlowctl.model.cpu import pooled_norm
from barlowctl.model.cpu.fused_blocks import FusedResNet, choose_norms
from barlowctl.model.cpu.fused_norm import FusedBatchNorm2d
from barlowctl.model.cpu.pooled_norm import PoolingOfFused
from barlowctl.model.one_pass import OnePass

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
FORMATS = [torch.bfloat16, torch.float32]
SHAPES = [(4, 16, 1, 1), (4, 16, 2, 3), (2, 48, 5, 5), (4, 64, 7, 4), (6, 32, 8, 9), (2, 16, 1, 6), (8, 64, 24, 24)]


def drawn(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, FusedBatchNorm2d]:
    """Maps with equal numbers in many windows, and a batch norm some of whose weights are negative."""
    x = (2.0 * torch.randn(shape, generator=torch.Generator().manual_seed(0))).round() / 2.0
    norm = FusedBatchNorm2d(shape[1])
    norm.rectifies = True
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-1.0, 1.5, shape[1]))
        norm.bias.copy_(torch.linspace(-0.5, 0.5, shape[1]))
    return x.contiguous(memory_format=torch.channels_last).to(dtype), norm


def weights_of(out: Tensor) -> Tensor:
    """Of a loss that weighs every value differently."""
    return torch.linspace(-1.0, 1.0, out.numel()).bfloat16().view(out.shape)


def trained(norm: FusedBatchNorm2d, x: Tensor, *, pools: bool) -> dict[str, Any]:
    """Computed in one, or by our batch norm and torch's pooling."""
    norm, own = copy.deepcopy(norm), x.clone(memory_format=torch.preserve_format).requires_grad_()
    norm.pools = pools
    out = norm(own)
    out = out if pools else nn.functional.max_pool2d(out, 3, 2, 1)
    out.backward(weights_of(out).to(out.dtype))
    moved = norm.running_mean, norm.running_var, norm.num_batches_tracked
    return {"output": out.detach(), "gradients": (own.grad, norm.weight.grad, norm.bias.grad), "moved": moved}


def exact_gradients(norm: FusedBatchNorm2d, x: Tensor) -> list[Tensor]:
    """In float64, of x, weight and bias, through the windows' largest of the numbers as they are rounded."""
    with torch.no_grad():
        rectified = copy.deepcopy(norm)(x).double()
    pooled = nn.functional.max_pool2d(rectified.requires_grad_(), 3, 2, 1)
    pooled.backward(weights_of(pooled).double())
    assert rectified.grad is not None
    own = x.double().requires_grad_()
    parameters = [p.detach().double().requires_grad_() for p in (norm.weight, norm.bias)]
    whole = [nn.functional.batch_norm(part, None, None, *parameters, training=True) for part in own.chunk(norm.parts)]
    torch.cat(whole).backward(rectified.grad * (rectified > 0))
    return [t.grad for t in (own, *parameters) if t.grad is not None]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_what_the_three_compute(shape: tuple[int, ...], parts: int, dtype: torch.dtype) -> None:
    if shape[0] // parts * shape[2] * shape[3] < 2:
        pytest.skip("a batch of one number has no variance")
    x, norm = drawn(shape, dtype)
    norm.parts = parts
    one, three, expected = trained(norm, x, pools=True), trained(norm, x, pools=False), exact_gradients(norm, x)
    assert torch.equal(one["output"], three["output"])
    assert one["output"].is_contiguous(memory_format=torch.channels_last)
    assert all(map(torch.equal, one["moved"], three["moved"]))
    assert one["moved"][2] == parts
    for ours, torchs, true in zip(one["gradients"], three["gradients"], expected, strict=True):
        largest = max(float(true.abs().max()), 1.0)
        own, other = (float((values.double() - true).abs().max()) / largest for values in (ours, torchs))
        assert own <= max(1.5 * other, 1e-6 if ours.dtype == torch.float32 else 4e-3), (own, other)


@pytest.mark.parametrize("dtype", FORMATS)
def test_nothing_passes_where_all_of_a_window_is_rectified(dtype: torch.dtype) -> None:
    norm = FusedBatchNorm2d(16)
    norm.bias.data[:] = torch.tensor([1.0, -1.0] * 8)  # what is normalised has no variance: the bias is what is left
    norm.rectifies = norm.pools = True
    out = norm(torch.ones(1, 16, 4, 4).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_())
    out.backward(torch.ones_like(out))
    assert out[0, :, 0, 0].tolist() == [1.0, 0.0] * 8
    assert norm.bias.grad is not None
    assert norm.bias.grad.tolist() == [4.0, 0.0] * 8


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_stays_so(dtype: torch.dtype, value: float) -> None:
    x, norm = drawn((4, 16, 6, 6), dtype)
    x[1, 3, 2, 2] = value
    one, three = trained(norm, x, pools=True), trained(norm, x, pools=False)
    assert torch.equal(one["output"].isnan(), three["output"].isnan())
    assert one["output"].isnan().any()
    assert one["gradients"][0][:, 3].isnan().all()
    others = [channel for channel in range(16) if channel != 3]
    assert torch.equal(one["output"][:, others], three["output"][:, others])
    assert not one["gradients"][0][:, others].isnan().any()


def test_zeros_with_a_sign_are_zeros() -> None:
    x, norm = drawn((2, 16, 4, 4), torch.float32)
    with torch.no_grad():
        norm.weight.fill_(-0.0)
        norm.bias.fill_(-0.0)
    norm.pools = True
    out = norm(x)
    assert not torch.signbit(out).any()
    assert not out.any()


@pytest.mark.parametrize("dtype", FORMATS)
def test_results_are_the_same_on_any_number_of_threads(dtype: torch.dtype) -> None:
    x, norm = drawn((7, 32, 20, 17), dtype)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(trained(norm, x, pools=True))
    for other in results[1:]:
        assert torch.equal(results[0]["output"], other["output"])
        assert all(map(torch.equal, results[0]["gradients"], other["gradients"]))


def resnet(**arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=0, **arguments).to(memory_format=torch.channels_last)
    choose_norms(network, CPU)
    return network


def images(count: int = 4) -> Tensor:
    drawn = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return drawn.contiguous(memory_format=torch.channels_last)


def test_a_resnet_goes_this_way_and_its_names_stay() -> None:
    network = resnet()
    plain = timm.create_model("resnet18", num_classes=0)
    assert type(network) is FusedResNet
    assert type(network.maxpool) is PoolingOfFused
    assert [name for name, _ in network.named_modules()] == [name for name, _ in plain.named_modules()]
    assert list(network.state_dict()) == list(plain.state_dict())
    choose_norms(network, CPU)  # once more changes nothing
    assert type(network) is FusedResNet
    assert type(copy.deepcopy(network)) is FusedResNet


def test_a_resnet_is_as_near_to_float64_as_it_was() -> None:
    ours, torchs, exact = resnet(), timm.create_model("resnet18", num_classes=0), None
    torchs.load_state_dict(ours.state_dict())
    exact, gradients = copy.deepcopy(torchs).double(), []
    for network, dtype in ((ours, torch.float32), (torchs, torch.float32), (exact, torch.float64)):
        network(images().to(dtype)).pow(2).sum().backward()
        gradients.append(torch.cat([p.grad.double().flatten() for p in network.parameters()]))
    own, other, true = gradients
    assert (own - true).norm() <= 1.2 * (other - true).norm()
    assert (own - true).norm() <= 1e-4 * true.norm()


def test_the_map_between_is_not_kept() -> None:
    def saved_bytes(network: nn.Module) -> int:
        sizes = list[int]()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.nbytes) or t, lambda t: t):  # type: ignore[func-returns-value]
            network(images(16))
        return sum(sizes)

    network = resnet()
    fused = saved_bytes(network)
    network.__class__ = ResNet
    map_bytes = 4 * 16 * 64 * 16 * 16
    assert (
        saved_bytes(network) - fused >= 0.4 * map_bytes
    )  # indices of eight bytes for a quarter of it, for one of a byte


def test_both_views_go_in_one_pass() -> None:
    network = resnet()
    one_pass = OnePass([network])
    assert one_pass.goes
    views = [images(), images().flip(0)]
    together = one_pass(network, views)
    alone = [resnet()(view) for view in views]
    for ours, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["bn1", "act1", "maxpool"])
def test_a_hook_sees_what_its_module_makes(name: str) -> None:
    network, expected, seen = resnet(), resnet(), list[Tensor]()
    network.get_submodule(name).register_forward_hook(lambda module, inputs, out: seen.append(out.detach()))
    torch.testing.assert_close(network(images()), expected(images()), rtol=1e-4, atol=1e-4)
    assert seen[0].shape[2:] == ((8, 8) if name == "maxpool" else (16, 16))


def test_maps_between_are_not_pooled() -> None:
    network = resnet()
    maps = network.forward_intermediates(images(), intermediates_only=True)
    assert [len(m[0, 0]) for m in maps] == [16, 8, 4, 2, 1]
    assert network.bn1(torch.ones(2, 64, 4, 4)).shape == (2, 64, 4, 4)
    assert not network.bn1.pools


def test_an_error_within_leaves_no_trace() -> None:
    network = resnet()
    with pytest.raises(RuntimeError):
        network(torch.zeros(2, 5, 32, 32))
    assert not network.bn1.pools


def test_evaluation_is_torchs() -> None:
    network, plain = resnet().eval(), timm.create_model("resnet18", num_classes=0).eval()
    plain.load_state_dict(network.state_dict())
    assert torch.equal(network(images()), plain.to(memory_format=torch.channels_last)(images()))


def test_without_gradients_it_is_the_same() -> None:
    network = resnet()
    before = copy.deepcopy(network)(images()).detach()
    with torch.no_grad():
        assert torch.equal(network(images()), before)
    with torch.inference_mode():
        torch.testing.assert_close(network(images()), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "is_ours"),
    [
        ({"stem_width": 24, "stem_type": "deep"}, True),
        ({"aa_layer": BlurPool2d}, False),
        ({"replace_stem_pool": True}, False),
        ({"act_layer": nn.SiLU}, False),
    ],
)
def test_other_stems_train_as_torchs_do(arguments: dict[str, Any], is_ours: bool) -> None:
    ours, plain = resnet(**arguments), timm.create_model("resnet18", num_classes=0, **arguments)
    plain.load_state_dict(ours.state_dict())
    assert (type(ours) is FusedResNet) == is_ours
    torch.testing.assert_close(ours(images()), plain(images()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "pooling",
    [
        nn.MaxPool2d(2, 2),
        nn.MaxPool2d(3, 2, 0),
        nn.MaxPool2d(3, 2, 1, dilation=2),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.MaxPool2d(3, 2, 1, return_indices=True),
        nn.AvgPool2d(3, 2, 1),
        nn.Identity(),
    ],
)
def test_other_poolings_are_not_ours(pooling: nn.Module) -> None:
    assert not pooled_norm.fits(pooling, 64)


def test_whose_pooling_is_ours() -> None:
    assert pooled_norm.fits(nn.MaxPool2d(3, 2, 1), 64)
    assert pooled_norm.fits(nn.MaxPool2d((3, 3), (2, 2), (1, 1)), 48)
    assert not pooled_norm.fits(nn.MaxPool2d(3, 2, 1), 24)


def test_a_result_that_was_changed_is_pooled() -> None:
    x = torch.rand(2, 4, 6, 6)
    x.pooled_at = x._version  # type: ignore[attr-defined]
    pooling = nn.MaxPool2d(3, 2, 1)
    pooling.__class__ = PoolingOfFused
    assert pooling(x) is x
    x += 1.0
    assert pooling(x).shape == (2, 4, 3, 3)
