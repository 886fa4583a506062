"""Batch norm and ReLU by our kernels on a CPU: where, and that they compute the same."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from timm.layers import BlurPool2d
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from barlowctl.model.cpu.fused_blocks import BLOCKS, FusedBasicBlock, FusedBottleneck, choose_norms
from barlowctl.model.cpu.fused_norm import FusedBatchNorm1d, FusedBatchNorm2d, FusedBatchNormAct2d, ReLUOfFused

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SHAPES = [(6, 3, 5, 5), (8, 16, 4, 4), (300, 8, 3, 3), (4, 300, 2, 2), (2, 5, 1, 1), (9, 40)]


FORMATS = [torch.bfloat16, torch.float32]


def values(shape: tuple[int, ...], dtype: torch.dtype = torch.bfloat16) -> Tensor:
    x = 3.0 * torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 2.0
    return (x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x).to(dtype)


def is_near(value: Tensor, exact: Tensor, dtype: torch.dtype) -> Tensor:
    """Where a value that was computed of numbers of a format is as near as that allows."""
    rounding = 4e-3 if dtype == torch.bfloat16 else 2e-5
    largest = exact.abs().max()
    return (value.double() - exact).abs() <= rounding * exact.abs() + 0.5 * rounding * largest + 1e-6


def layers(channels: int, dims: int, rectified: bool, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    norm = (nn.BatchNorm2d if dims == 4 else nn.BatchNorm1d)(channels)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-0.5, 1.5, channels))
        norm.bias.copy_(torch.linspace(-0.4, 0.6, channels))
    return nn.Sequential(norm, nn.ReLU(inplace=True) if rectified else nn.Identity()).to(dtype)


def results(network: nn.Sequential, x: Tensor) -> dict[str, Tensor]:
    """Of a loss that weighs every value differently: the output, all gradients and the running statistics."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = network(x)
    weights = torch.linspace(-1.0, 1.0, out.numel()).bfloat16().view(out.shape)
    out.backward(weights.to(out.dtype))
    norm = network[0]
    assert x.grad is not None
    return {
        "output": out.detach(),
        "of x": x.grad,
        "of weight": norm.weight.grad,
        "of bias": norm.bias.grad,
        "running mean": norm.running_mean,
        "running variance": norm.running_var,
    }


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_compute_batch_norm_up_to_rounding(shape: tuple[int, ...], rectified: bool, dtype: torch.dtype) -> None:
    """Against torch's in float64 on the same numbers."""
    x = values(shape, dtype)
    network = layers(shape[1], len(shape), rectified)
    exact = results(copy.deepcopy(network).double(), x.double())
    choose_norms(network, CPU)
    assert isinstance(network[0], FusedBatchNorm2d | FusedBatchNorm1d)
    assert isinstance(network[1], ReLUOfFused) == rectified
    ours = results(network, x)
    assert ours["output"].dtype == ours["of x"].dtype == dtype
    for name, expected in exact.items():
        # near 0 a ReLU of rounded values may let a gradient through that it should not
        near = is_near(ours[name], expected, dtype)
        assert near.float().mean() >= (0.99 if rectified and name == "of x" else 1.0), name
    assert network[0].num_batches_tracked == 1


def test_parts_are_batches_of_their_own() -> None:
    x = values((12, 7, 3, 3))
    one, two = layers(7, 4, rectified=True), layers(7, 4, rectified=True)
    choose_norms(one, CPU)
    choose_norms(two, CPU)
    out = [one(part) for part in x.chunk(3)]
    two[0].parts = 3
    assert torch.equal(two(x), torch.cat(out))
    for name, buffer in one.named_buffers():
        assert torch.equal(buffer, two.get_buffer(name)), name
    two.eval()
    assert torch.equal(two(x[:2]), one.eval()(x[:2]))  # parts are of training


def test_parts_without_kernels_too() -> None:
    x = torch.randn(8, 3, 2, 2)
    one, two = layers(3, 4, rectified=False), layers(3, 4, rectified=False)
    choose_norms(two, CPU)
    two[0].parts = 2
    torch.testing.assert_close(two(x), torch.cat([one(part) for part in x.chunk(2)]))
    torch.testing.assert_close(two[0].running_var, one[0].running_var)


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_a_large_mean_hides_no_variance(dtype: torch.dtype) -> None:
    """Not even behind a first value that is far from all others."""
    x = 1000.0 + 3.0 * torch.randn(500, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last).to(dtype)
    x[0, :, 0, 0] = 0.0
    network = layers(4, 4, rectified=False)
    network[0].momentum = 1.0
    exact = results(copy.deepcopy(network).double(), x.double())
    choose_norms(network, CPU)
    ours = results(network, x)
    rounding = 5e-3 if dtype == torch.bfloat16 else 2e-5
    torch.testing.assert_close(ours["output"].double(), exact["output"], rtol=rounding, atol=rounding)
    torch.testing.assert_close(ours["running variance"].double(), exact["running variance"], rtol=1e-5, atol=0.0)


def test_in_float32_it_is_as_exact_as_torchs() -> None:
    """Errors against float64: of the output, of all gradients and of the running statistics."""
    x, before = values((64, 16, 12, 12), torch.float32) + 20.0, layers(16, 4, rectified=False)
    after, exact = copy.deepcopy(before), results(copy.deepcopy(before).double(), x.double())
    choose_norms(after, CPU)
    torchs, ours = results(before, x), results(after, x)
    for name, expected in exact.items():
        scale = expected.norm()
        assert (ours[name] - expected).norm() <= 1.2 * (torchs[name] - expected).norm() + 1e-7 * scale, name


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_a_gradient_passes_exactly_where_the_result_is_positive(dtype: torch.dtype) -> None:
    """Backward, what was rectified is known from the input, by the arithmetic of the result itself."""
    x = values((64, 16, 14, 14), dtype).requires_grad_()
    network = layers(16, 4, rectified=True)
    choose_norms(network, CPU)
    out = network(x)
    out.backward((out > 0).to(dtype))
    of_bias = (out > 0).sum(dim=(0, 2, 3))
    assert torch.equal(network[0].bias.grad, of_bias.float())
    network.zero_grad()
    network(x).backward(torch.ones_like(out))
    assert torch.equal(network[0].bias.grad, of_bias.float())


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("rectified", [False, True])
def test_what_is_no_number_stays_so(rectified: bool, dtype: torch.dtype) -> None:
    x = values((4, 3, 2, 2), dtype)
    x[1, 2, 0, 0] = float("nan")
    network = layers(3, 4, rectified)
    choose_norms(network, CPU)
    assert torch.isnan(network(x))[:, 2].all()
    assert torch.isfinite(network(x))[:, :2].all()


@pytest.mark.parametrize("kind", ["fp16", "contiguous", "evaluation", "one row", "weights in bf16", "one bias apart"])
def test_all_else_is_torchs_own(kind: str) -> None:
    x = values((1, 3, 1, 1) if kind == "one row" else (4, 3, 2, 2))
    before, after = layers(3, 4, rectified=True), layers(3, 4, rectified=True)
    choose_norms(after, CPU)
    if kind == "fp16":
        x = x.half()
    if kind == "one bias apart":  # of a longer vector, every second number
        for network in (before, after):
            network[0].bias = nn.Parameter(torch.linspace(-1.0, 1.0, 6)[::2])
    if kind == "contiguous":
        x = x.contiguous()
    if kind == "weights in bf16":
        before, after = before.bfloat16(), after.bfloat16()
    if kind == "evaluation":
        before, after = before.eval(), after.eval()
    if kind == "one row":
        with pytest.raises(ValueError, match="more than 1 value"):
            after(x)
        return
    assert torch.equal(before(x), after(x))


def test_a_relu_takes_what_is_shown_to_a_hook_before_it() -> None:
    """Who looks at a batch norm's result sees that, not what the ReLU makes of it."""
    network, seen = layers(3, 4, rectified=True), []
    choose_norms(network, CPU)
    network[0].register_forward_hook(lambda module, inputs, output: seen.append(output.detach().clone()))
    out = network(values((4, 3, 2, 2)))
    assert seen[0].min() < 0.0 == out.min()


def test_a_relu_rectifies_what_was_changed_since() -> None:
    network = layers(3, 4, rectified=True)
    choose_norms(network, CPU)
    normalised = network[0](values((4, 3, 2, 2)))
    with torch.no_grad():
        normalised -= 1.0
    assert network[1](normalised).min() == 0.0


@pytest.mark.parametrize("trained", [True, False])
def test_inference_tensors_have_no_versions(trained: bool) -> None:
    before, after = layers(3, 4, rectified=True).train(trained), layers(3, 4, rectified=True).train(trained)
    choose_norms(after, CPU)
    x = values((4, 3, 2, 2))
    with torch.inference_mode():
        torch.testing.assert_close(after(x), before(x), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize("name", ["resnet18", "resnet26"])
def test_a_network_is_the_same_with_them(name: str, bf16: bool) -> None:
    """Output and gradients; names of parameters and buffers, and what evaluation computes, to the bit."""
    torch.manual_seed(0)
    small = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 8}
    network = timm.create_model(name, num_classes=0, in_chans=1, **small).to(memory_format=torch.channels_last)
    exact, ours = copy.deepcopy(network).double(), copy.deepcopy(network)
    choose_norms(ours, CPU)
    assert list(ours.state_dict()) == list(network.state_dict())
    assert not any(type(part) is nn.BatchNorm2d for part in ours.modules())
    x = torch.randn(16, 1, 32, 32).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        before, after = network(x), ours(x)
    true = exact(x.double())
    for out, of in ((before, network), (after, ours), (true, exact)):
        out.float().square().sum().backward()
        assert all(p.grad is not None for p in of.parameters())
    error = [(out.double() - true).norm() for out in (before, after)]
    assert error[1] < 1.2 * error[0]
    gradients = [torch.cat([p.grad.double().flatten() for p in of.parameters()]) for of in (network, ours, exact)]
    assert (gradients[1] - gradients[2]).norm() < 1.2 * (gradients[0] - gradients[2]).norm()
    ours.load_state_dict(network.state_dict())
    assert torch.equal(network.eval()(x), ours.eval()(x))


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if len(shape) == 4])
def test_a_shortcut_is_added_in_the_same_pass(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Output and gradients, of the shortcut too, against torch's in float64; rounded once."""
    x = values(shape, dtype)
    shortcut = x.flip(0).contiguous(memory_format=torch.channels_last) - 2.0
    network = layers(shape[1], 4, rectified=True)
    exact = copy.deepcopy(network).double()
    choose_norms(network, CPU)
    weights = torch.linspace(-1.0, 1.0, x.numel()).to(dtype).view(shape)
    ours = [tensor.clone(memory_format=torch.preserve_format).requires_grad_() for tensor in (x, shortcut)]
    theirs = [tensor.double().requires_grad_() for tensor in (x, shortcut)]
    out = network[0].added(*ours, network[1])
    expected = torch.relu(exact[0](theirs[0]) + theirs[1])
    out.backward(weights)
    expected.backward(weights.double())
    pairs = [("output", out.detach(), expected.detach())]
    pairs += [(f"of input {i}", a.grad, b.grad) for i, (a, b) in enumerate(zip(ours, theirs, strict=True))]
    pairs += [(name, p.grad, exact[0].get_parameter(name).grad) for name, p in network[0].named_parameters()]
    pairs += [(name, b, exact[0].get_buffer(name)) for name, b in network[0].named_buffers()]
    for name, value, true in pairs:
        near = is_near(value, true, dtype)
        assert near.float().mean() >= (0.99 if name.startswith("of input") else 1.0), name


@pytest.mark.parametrize("register", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_who_looks_at_the_gradient_of_a_relu_sees_it(register: str) -> None:
    """The pass that adds a shortcut, too, leaves a ReLU with a hook to torch."""
    network, calls = layers(3, 4, rectified=False), list[int]()
    choose_norms(network, CPU)
    activation = nn.ReLU()
    getattr(activation, register)(lambda module, *gradients: calls.append(len(gradients)))
    x, shortcut = values((4, 3, 2, 2)).requires_grad_(), values((4, 3, 2, 2))
    network[0].added(x, shortcut, activation).sum().backward()
    assert len(calls) == 1


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("where", ["x", "shortcut"])
def test_what_is_no_number_stays_so_in_a_sum(where: str, dtype: torch.dtype) -> None:
    x, shortcut = values((4, 3, 2, 2), dtype), values((4, 3, 2, 2), dtype)
    (x if where == "x" else shortcut)[1, 2, 0, 0] = float("nan")
    network = layers(3, 4, rectified=True)
    choose_norms(network, CPU)
    out = network[0].added(x, shortcut, network[1])
    assert torch.isnan(out[1, 2, 0, 0])
    assert torch.isfinite(out[:, :2]).all()


VARIANTS: dict[str, dict[str, object]] = {
    "plain": {}, "zeros": {"zero_init_last": True}, "attention": {"block_args": {"attn_layer": "se"}},
    "drop path": {"drop_path_rate": 0.5}, "drop block": {"drop_block_rate": 0.2}, "aa": {"aa_layer": BlurPool2d},
    "average down": {"avg_down": True}, "silu": {"act_layer": "silu"},
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["resnet18", "resnet26"])
def test_blocks_of_all_variants_are_timms(name: str, variant: str) -> None:
    """As near to float64 as torch's; those with something before the addition go timm's way."""
    torch.manual_seed(0)
    small = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16], "zero_init_last": False}
    network = timm.create_model(name, num_classes=0, in_chans=1, **{**small, **VARIANTS[variant]})
    network = network.to(memory_format=torch.channels_last)
    exact, ours = copy.deepcopy(network).double(), copy.deepcopy(network)
    choose_norms(ours, CPU)
    assert any(isinstance(part, FusedBasicBlock | FusedBottleneck) for part in ours.modules())
    assert not any(type(part) in BLOCKS for part in ours.modules())
    x = torch.randn(16, 1, 64, 64).contiguous(memory_format=torch.channels_last)
    out, gradients = list[Tensor](), list[Tensor]()
    for of in (network, ours, exact):
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=of is not exact):
            out.append(of(x.double() if of is exact else x).double())
        out[-1].square().sum().backward()
        gradients.append(torch.cat([p.grad.double().flatten() for p in of.parameters()]))
    for before, after, true in (out, gradients):
        assert (after - true).norm() <= 1.2 * (before - true).norm()
    ours.load_state_dict(network.state_dict())
    assert torch.equal(network.eval()(x), ours.eval()(x))


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU, None])
def test_a_batch_norm_with_its_activation_is_timms(
    activation: type[nn.Module] | None, watched: bool, dtype: torch.dtype
) -> None:
    """Also with a hook on the activation, which sees what goes into it."""
    torch.manual_seed(0)
    theirs = BatchNormAct2d(32, apply_act=activation is not None, act_layer=activation or nn.ReLU)
    nn.init.uniform_(theirs.weight, -1.0, 1.0)
    nn.init.uniform_(theirs.bias, -1.0, 1.0)
    x = torch.randn(6, 32, 5, 4).to(dtype).contiguous(memory_format=torch.channels_last)
    grad = torch.randn(x.shape).to(dtype)
    true = in_float64(theirs, x, grad)
    network = nn.Sequential(copy.deepcopy(theirs))
    choose_norms(network, torch.device("cpu"))
    assert type(network[0]) is FusedBatchNormAct2d
    seen: list[Tensor] = []
    if watched:
        network[0].act.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    own = x.clone().requires_grad_()
    out = network(own)
    out.backward(grad)
    assert len(seen) == watched
    assert not seen or bool((seen[0] < 0).any())
    rounding = 2e-2 if dtype == torch.bfloat16 else 1e-5
    parts = (out.detach(), own.grad, network[0].weight.grad, network[0].bias.grad, network[0].running_var)
    for made, exact in zip(parts, true, strict=True):
        assert (made.double() - exact).norm() <= rounding * exact.norm()


def in_float64(norm: nn.Module, x: Tensor, grad: Tensor) -> list[Tensor]:
    """Result, gradients of x, weight and bias, and the running variance."""
    norm, x = copy.deepcopy(norm).double(), x.double().requires_grad_()
    out = norm(x)
    out.backward(grad.double())
    return [out.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_var]


def test_a_batch_norm_with_its_activation_evaluates_as_timms() -> None:
    network = nn.Sequential(BatchNormAct2d(16))
    x = torch.randn(3, 16, 4, 4).to(memory_format=torch.channels_last)
    expected = network.eval()(x)
    choose_norms(network, torch.device("cpu"))
    assert torch.equal(network(x), expected)


@pytest.mark.parametrize("counted", [torch.tensor(5), torch.tensor(5, dtype=torch.int32), None])
def test_batches_are_counted_whatever_counts_them(counted: Tensor | None) -> None:
    """Our kernels, torch where the number is of another format, or nobody."""
    norm = FusedBatchNorm2d(16)
    norm.num_batches_tracked, norm.parts = counted, 2
    norm(values((8, 16, 4, 4)))
    assert norm.num_batches_tracked is counted
    assert counted is None or int(counted) == 7
