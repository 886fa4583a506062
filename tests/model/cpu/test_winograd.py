"""3 x 3 convolutions as Winograd computed them, of maps in float32 and bf16: how near, where, and by whom."""

from __future__ import annotations

import copy
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from barlowctl.kernels import thread_team
from barlowctl.model.cpu import tile_products, winograd
from barlowctl.model.cpu.fused_blocks import choose_norms
from barlowctl.model.cpu.product_convolution import ProductConvolution, choose_convolutions, prepare_convolutions
from barlowctl.model.one_pass import OnePass

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
FP32, BF16 = torch.float32, torch.bfloat16
both_formats = pytest.mark.parametrize("dtype", [FP32, BF16], ids=["fp32", "bf16"])
SHAPES = [
    # n, c, d, height, width
    (6, 64, 64, 8, 8),
    (5, 128, 64, 6, 4),
    (3, 16, 192, 7, 9),
    (40, 80, 48, 4, 5),
    (2, 64, 64, 3, 31),
    (29, 32, 16, 3, 3),
    (1, 64, 80, 40, 34),
    (70, 64, 128, 5, 10),
    (7, 272, 256, 8, 4),  # all tiles are transformed before
    (12, 256, 272, 3, 3),
    (130, 32, 64, 4, 4),  # shares of the batch
    (600, 16, 32, 4, 4),  # as many as there may be
    (9, 64, 32, 17, 29),
    (3, 256, 48, 15, 10),
]
ERRORS = {FP32: 4e-6, BF16: 6e-5}
"""The most that a result is off, relative to the norm of all; a result's largest error, to its largest value.

Of maps in bf16 before they are rounded.
"""


@pytest.fixture(autouse=True)
def without_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this processor is."""
    monkeypatch.setattr(winograd, "is_x86_without_amx", lambda: True)
    monkeypatch.setattr(tile_products, "is_usable", lambda: False)


def by_channels(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def results(convolve: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor, grad: Tensor) -> list[Tensor]:
    """Output, gradient of x and gradient of the weight."""
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    out = convolve(x, weight)
    out.backward(grad)
    assert x.grad is not None
    assert weight.grad is not None
    return [out.detach(), x.grad, weight.grad]


def by_definition(x: Tensor, weight: Tensor) -> Tensor:
    """The convolution's formula, tap by tap."""
    height, width = x.shape[2:]
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    taps = [(i, j) for i in range(3) for j in range(3)]
    lines = [padded[:, :, i : i + height, j : j + width] for i, j in taps]
    return torch.stack(
        [torch.einsum("nchw,dc->ndhw", line, weight[:, :, i, j]) for line, (i, j) in zip(lines, taps, strict=True)]
    ).sum(0)


def drawn(n: int, c: int, d: int, height: int, width: int, dtype: torch.dtype = FP32) -> tuple[Tensor, Tensor, Tensor]:
    """Images after a ReLU, weights as they begin, and a gradient."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, c, height, width, generator=generator).relu()
    weight = torch.randn(d, c, 3, 3, generator=generator) * (2.0 / (9 * c)) ** 0.5
    grad = 1e-3 * torch.randn(n, d, height, width, generator=generator)
    return by_channels(x).to(dtype), by_channels(weight), by_channels(grad).to(dtype)


def truth_of(x: Tensor, weight: Tensor, grad: Tensor) -> list[Tensor]:
    return results(by_definition, x.double(), weight.double(), grad.double())


def relative(part: Tensor, truth: Tensor) -> float:
    return ((part.double() - truth).norm() / truth.norm()).item()


def is_rounded(part: Tensor, truth: Tensor, error: float) -> bool:
    """Whether results in bf16 are as near to the truth as rounding numbers lets them be that are nearly the truth."""
    most = truth.abs() * 2**-8 + error * truth.abs().max()
    return bool(((part.double() - truth).abs() <= most).all())


@both_formats
@pytest.mark.parametrize(("n", "c", "d", "height", "width"), SHAPES)
def test_it_is_the_convolution_up_to_rounding(
    n: int, c: int, d: int, height: int, width: int, dtype: torch.dtype
) -> None:
    case = drawn(n, c, d, height, width, dtype)
    ours, truths, error = results(winograd.convolve, *case), truth_of(*case), ERRORS[dtype]
    assert [part.dtype for part in ours] == [dtype, dtype, FP32]
    for part, truth in zip(ours, truths, strict=True):
        assert part.is_contiguous(memory_format=torch.channels_last)
        if part.dtype == BF16:
            assert is_rounded(part, truth, error)
            assert relative(part, truth) < 2e-3  # of rounding 1.7e-3
        else:
            assert relative(part, truth) < error
            assert (part - truth).abs().max() < error * truth.abs().max()


def with_tiles_of(m: int) -> Callable[[Tensor, Tensor], Tensor]:
    def convolve(x: Tensor, weight: Tensor) -> Tensor:
        out: Tensor = winograd._Winograd.apply(x, weight, m)
        return out

    return convolve


@pytest.mark.parametrize(("side", "m", "most"), [(8, 4, 5.0), (6, 3, 3.5), (10, 2, 2.5)])
def test_its_error_is_a_few_times_that_of_torch(side: int, m: int, most: float) -> None:
    """Output and gradient of x; the gradient of the weight is as near."""
    case = drawn(8, 128, 128, side, side)
    truth, torchs = truth_of(*case), results(lambda x, weight: nn.functional.conv2d(x, weight, padding=1), *case)
    for part, other, true in zip(results(with_tiles_of(m), *case), torchs, truth, strict=True):
        assert relative(part, true) < most * max(relative(other, true), 1.8e-7)


@pytest.mark.parametrize(("m", "most"), [(5, 5e-6), (6, 9e-6), (7, 2e-5), (8, 4e-5)])
def test_tiles_for_bf16_are_off_by_far_less_than_its_rounding(m: int, most: float) -> None:
    case = drawn(8, 128, 128, 2 * m, 2 * m)
    for part, true in zip(results(with_tiles_of(m), *case), truth_of(*case), strict=True):
        assert 0 < relative(part, true) < most


def test_in_bf16_it_is_nearer_to_the_truth_than_torch() -> None:
    """Whose weights and gradients of weights are rounded too."""
    case = drawn(8, 128, 128, 7, 7, BF16)
    torchs = results(lambda x, weight: nn.functional.conv2d(x, weight.bfloat16(), padding=1), *case)
    for part, other, true in zip(results(winograd.convolve, *case), torchs, truth_of(*case), strict=True):
        assert relative(part, true) < 0.8 * relative(other, true)


def test_sums_over_many_tiles_do_not_lose_what_they_add() -> None:
    """The gradient of the weight of 10,240 tiles, of numbers of one sign, whose sum is large beside each of them."""
    x, weight, grad = drawn(160, 16, 16, 32, 32)
    grad = grad.abs()
    x = results(winograd.convolve, x, weight, grad)[2], truth_of(x, weight, grad)[2]
    assert relative(*x) < ERRORS[FP32]


THREADS = (2, 3, 5, 8)
needs_a_team = pytest.mark.skipif(
    thread_team.address() is None, reason="torch has no threads here that kernels can use"
)


def on(threads: int, *case: Tensor) -> list[Tensor]:
    torch.set_num_threads(threads)
    return results(winograd.convolve, *case)


@needs_a_team
@both_formats
@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_are_those_of_one_thread_to_the_bit(shape: tuple[int, int, int, int, int], dtype: torch.dtype) -> None:
    case = drawn(*shape, dtype)
    alone = on(1, *case)
    for threads in THREADS:
        assert all(map(torch.equal, alone, on(threads, *case))), threads


@needs_a_team
def test_several_threads_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    from barlowctl.kernels.winograd import passes as winograd_passes
    from barlowctl.kernels.winograd import threads as winograd_threads

    teams: list[Any] = []
    call_together = winograd_threads.call_together
    replacement = lambda team, *rest: teams.append(team) or call_together(team, *rest)  # noqa: E731
    monkeypatch.setattr(winograd_passes.winograd_threads, "call_together", replacement)
    for threads in (1, 3):
        teams.clear()
        on(threads, *drawn(6, 64, 64, 8, 8))
        assert {team[1] for team in teams} == {threads}
        assert len(teams) == 6  # weights and tiles, twice; sums and what is made of them


@needs_a_team
def test_two_that_train_at_the_same_time_do_not_meet() -> None:
    shapes = [(29, 64, 64, 9, 9), (11, 64, 128, 12, 6)]
    alone = [on(1, *drawn(*shape)) for shape in shapes]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(4):
            together = pool.map(lambda shape: on(2, *drawn(*shape)), shapes)
            for expected, computed in zip(alone, together, strict=True):
                assert all(map(torch.equal, expected, computed))


def layer_of(channels: int = 64, **changed: Any) -> nn.Conv2d:
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, 64, **{"kernel_size": 3, "padding": 1, "bias": False, **changed})
    layer = layer.to(memory_format=torch.channels_last)
    choose_convolutions(layer, CPU)
    return layer


def images(channels: int, height: int, width: int, n: int = 16) -> Tensor:
    return by_channels(torch.randn(n, channels, height, width, generator=torch.Generator().manual_seed(1)))


def computing_in(dtype: torch.dtype) -> torch.autocast:
    return torch.autocast("cpu", dtype=dtype, enabled=dtype != FP32)


def node(layer: nn.Module, x: Tensor, dtype: torch.dtype = FP32) -> str:
    """What autograd calls the operation."""
    with computing_in(dtype):
        return type(layer(x).grad_fn).__name__


@pytest.mark.parametrize(
    ("channels", "height", "width", "n", "in_fp32", "in_bf16"),
    [
        (64, 8, 8, 24, True, True),
        (48, 8, 8, 24, True, True),
        (16, 8, 8, 24, True, False),
        (40, 8, 8, 24, False, False),
        (64, 3, 16, 16, True, True),
        (64, 16, 2, 16, True, False),
        (64, 2, 16, 16, True, False),
        (64, 32, 1, 16, False, False),
        (64, 1, 32, 16, False, False),
        (64, 8, 8, 5, False, False),
        (64, 8, 8, 6, True, False),
        (64, 8, 8, 23, True, False),
    ],
)
def test_only_those_are_computed_so_that_were_measured_to_be_faster(
    channels: int, height: int, width: int, n: int, in_fp32: bool, in_bf16: bool
) -> None:
    layer, x = layer_of(channels), images(channels, height, width, n)
    for dtype, taken in ((FP32, in_fp32), (BF16, in_bf16)):
        assert (node(layer, x, dtype) == "_WinogradBackward") == taken
        assert (node(layer, x.to(dtype), dtype) == "_WinogradBackward") == taken


@pytest.mark.parametrize(
    ("height", "width", "in_fp32", "in_bf16"),
    [
        (56, 56, 4, 8),
        (32, 32, 4, 8),
        (28, 28, 4, 7),
        (20, 20, 4, 7),
        (12, 12, 4, 6),
        (10, 10, 4, 5),
        (8, 8, 4, 8),
        (7, 7, 4, 7),
        (6, 6, 3, 6),
        (5, 5, 3, 5),
        (4, 4, 4, 4),
        (3, 3, 3, 3),
        (2, 10, 2, 2),
    ],
)
def test_a_tile_has_the_side_with_the_fewest_products(height: int, width: int, in_fp32: int, in_bf16: int) -> None:
    assert winograd.tile_side(height, width, FP32) == in_fp32
    assert winograd.tile_side(height, width, BF16) == in_bf16


CHANGES = [{"groups": 2}, {"bias": True}, {"dilation": 2}, {"padding": 0}, {"stride": 2}, {"padding": "same"},
           {"kernel_size": 5, "padding": 2}, {"padding_mode": "circular"}]  # fmt: skip


@both_formats
@pytest.mark.parametrize("changed", CHANGES, ids=str)
def test_others_stay_as_they_are(changed: dict[str, Any], dtype: torch.dtype) -> None:
    layer, x = layer_of(128, **changed), images(128, 8, 8, 32)
    assert node(layer, x, dtype) != "_WinogradBackward"
    assert node(layer_of(128), x, dtype) == "_WinogradBackward"


KINDS = ["contiguous", "evaluation", "no team", "float64", "fp16", "compiled", "less precise"]


@pytest.mark.parametrize("kind", KINDS)
def test_all_else_is_torchs_own(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = layer_of(), images(64, 8, 8)
    assert not torch.equal(layer(x), nn.functional.conv2d(x, layer.weight, padding=1))
    before = copy.deepcopy(layer)
    before.__class__ = nn.Conv2d
    if kind == "contiguous":
        x = x.contiguous()
    if kind == "evaluation":
        layer.eval()
    if kind == "no team":
        monkeypatch.setattr(thread_team, "address", lambda: None)
        torch.set_num_threads(2)
    if kind == "float64":
        layer, before, x = layer.double(), before.double(), x.double()
    if kind == "compiled":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    mkldnn: Any = torch.backends.mkldnn
    convolutions = mkldnn.conv
    convolutions.fp32_precision = "bf16" if kind == "less precise" else "none"  # which oneDNN may then compute in
    try:
        with torch.autocast("cpu", dtype=torch.float16, enabled=kind == "fp16"):
            assert torch.equal(layer(x), before(x))
    finally:
        convolutions.fp32_precision = "none"


@pytest.mark.parametrize("kind", ["contiguous", "evaluation", "no team", "weights in bf16", "processor"])
def test_all_else_is_torchs_own_in_bf16(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = layer_of(), images(64, 8, 8, 32)
    before = copy.deepcopy(layer)
    before.__class__ = nn.Conv2d
    assert node(layer, x, BF16) == "_WinogradBackward"
    if kind == "contiguous":
        x = x.contiguous()
    if kind == "evaluation":
        layer.eval()
    if kind == "no team":
        monkeypatch.setattr(thread_team, "address", lambda: None)
        torch.set_num_threads(2)
    if kind == "weights in bf16":
        layer, before = layer.bfloat16(), before.bfloat16()
    if kind == "processor":
        monkeypatch.setattr(winograd, "is_x86_without_amx", lambda: False)
    with computing_in(BF16):
        assert torch.equal(layer(x), before(x))


@pytest.mark.parametrize(
    ("machine", "features", "permitted", "usable"),
    [
        ("x86_64", {"avx512bf16": True}, False, True),
        ("AMD64", {"avx2": True}, False, True),
        ("x86_64", {"avx512bf16": True, "amx-bf16": True}, True, False),  # products in bf16 are many times as fast
        ("x86_64", {"avx512bf16": True, "amx-bf16": True}, False, True),  # the system lets nobody use the tiles
        ("x86_64", {"avx512bf16": True, "amx-bf16": True}, None, False),  # torch cannot say it
        ("arm64", {"neon": True, "bf16": True}, False, False),  # not measured
    ],
)
def test_processors_on_which_it_is_the_faster_way_in_bf16(
    machine: str, features: dict[str, bool], permitted: bool | None, usable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llvmlite import binding

    monkeypatch.undo()  # `without_amx`
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: features)
    if permitted is None:
        monkeypatch.delattr(torch._C._cpu, "_init_amx")
    else:
        monkeypatch.setattr(torch._C._cpu, "_init_amx", lambda: permitted)
    winograd.is_x86_without_amx.cache_clear()
    try:
        assert winograd.is_usable(BF16) == usable
        assert winograd.is_usable(FP32)
    finally:
        winograd.is_x86_without_amx.cache_clear()


@both_formats
def test_images_are_computed_one_by_one_and_always_the_same(dtype: torch.dtype) -> None:
    x, weight, grad = drawn(48, 64, 64, 6, 6, dtype)
    together = results(winograd.convolve, x, weight, grad)
    assert all(map(torch.equal, together, results(winograd.convolve, x, weight, grad)))
    pairs = zip(x.split(20), grad.split(20), strict=True)
    apart = [results(winograd.convolve, part, weight, gradient) for part, gradient in pairs]
    for number in (0, 1):
        assert torch.equal(together[number], torch.cat([part[number] for part in apart]))
    torch.testing.assert_close(together[2], torch.stack([part[2] for part in apart]).sum(0), rtol=1e-4, atol=1e-5)


@both_formats
def test_activation_checkpointing_gives_the_same_gradients(dtype: torch.dtype) -> None:
    layer, x = layer_of(), images(64, 8, 8, 32)
    gradients = []
    for again in (False, True):
        layer.zero_grad()
        with computing_in(dtype):
            out = checkpoint(layer, x, use_reentrant=False) if again else layer(x)
        out.float().square().sum().backward()
        gradients.append(layer.weight.grad)
    assert torch.equal(*gradients)


@both_formats
def test_only_the_gradients_that_are_asked_for(dtype: torch.dtype) -> None:
    x, weight, grad = drawn(8, 64, 64, 4, 4, dtype)
    whole = results(winograd.convolve, x, weight, grad)
    x = x.requires_grad_()
    winograd.convolve(x, weight).backward(grad)
    assert torch.equal(x.grad, whole[1])
    weight = weight.requires_grad_()
    winograd.convolve(x.detach(), weight).backward(grad.contiguous())
    assert torch.equal(weight.grad, whole[2])


def test_weights_in_another_memory_format_are_the_same_weights() -> None:
    for shape in ((8, 64, 128, 4, 4), (8, 256, 256, 4, 4)):
        x, weight, grad = drawn(*shape)
        one, other = (results(winograd.convolve, x, values, grad) for values in (weight, weight.contiguous()))
        assert all(map(torch.equal, one, other))


def test_what_torch_makes_tensors_of_by_default_changes_nothing() -> None:
    case = drawn(40, 64, 64, 4, 4)
    expected = results(winograd.convolve, *case)
    torch.set_default_dtype(torch.float64)
    try:
        assert all(map(torch.equal, expected, results(winograd.convolve, *case)))
    finally:
        torch.set_default_dtype(torch.float32)


@both_formats
def test_what_is_no_number_stays_so(dtype: torch.dtype) -> None:
    x, weight, _ = drawn(30, 64, 64, 6, 6, dtype)
    x[1, 5, 2, 3] = float("nan")
    out = winograd.convolve(x, weight)
    assert torch.isnan(out[1, :, 1:4, 2:5]).all()
    assert torch.isfinite(out[[0, *range(2, 30)]]).all()
    weight[7, 3, 1, 1] = torch.tensor(0x7FFFFFFF, dtype=torch.int32).view(FP32)  # rounded up it would be -0
    out = winograd.convolve(drawn(30, 64, 64, 6, 6, dtype)[0], weight)
    assert torch.isnan(out[:, 7]).all()
    assert torch.isfinite(out[:, [0, *range(8, 64)]]).all()


def test_names_parameters_and_copies_stay() -> None:
    layer = layer_of()
    assert type(copy.deepcopy(layer)) is ProductConvolution
    node(layer, images(64, 8, 8))
    assert list(layer.state_dict()) == ["weight"]


def small_resnet(activation: type[nn.Module]) -> nn.Module:
    sizes = {"layers": [1, 1, 1, 1], "channels": [64, 64, 64, 128], "stem_type": "deep", "stem_width": 32}
    network = timm.create_model(
        "resnet18", num_classes=0, in_chans=1, act_layer=activation, zero_init_last=False, **sizes
    )
    network.maxpool = nn.Identity()
    return network.to(memory_format=torch.channels_last)


def trained_once(network: nn.Module, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Output and all gradients, in float64."""
    with computing_in(dtype):
        out = network(x.to(next(network.parameters()).dtype))
    out.double().square().sum().backward()
    return out.double(), torch.cat([p.grad.double().flatten() for p in network.parameters()])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_network_is_nearly_as_near_to_float64_with_them(seed: int) -> None:
    """Of a ResNet whose activation has no corner: there, rounding turns gradients."""
    torch.manual_seed(seed)
    network, x = small_resnet(nn.SiLU), by_channels(torch.randn(16, 1, 32, 32))
    exact, ours = copy.deepcopy(network).double(), copy.deepcopy(network)
    choose_convolutions(ours, CPU)
    for true, torchs, own in zip(*(trained_once(of, x, FP32) for of in (exact, network, ours)), strict=True):
        assert not torch.equal(torchs, own)
        assert relative(own, true) < 2 * relative(torchs, true) < 2e-5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_network_in_bf16_is_nearer_to_float64_with_them(seed: int) -> None:
    """Of such a ResNet, too."""
    torch.manual_seed(seed)
    network, x = small_resnet(nn.SiLU), by_channels(torch.randn(32, 1, 32, 32))
    exact, ours = copy.deepcopy(network).double(), copy.deepcopy(network)
    choose_convolutions(ours, CPU)
    results_of = [trained_once(exact, x, FP32), *(trained_once(of, x, BF16) for of in (network, ours))]
    for true, torchs, own in zip(*results_of, strict=True):
        assert not torch.equal(torchs, own)
        assert relative(own, true) < relative(torchs, true)


def test_both_views_go_in_one_pass() -> None:
    network = nn.Sequential(layer_of(), nn.BatchNorm2d(64), nn.ReLU())
    choose_norms(network, CPU)
    views = [images(64, 8, 8, 32), images(64, 8, 8, 32).flip(3)]
    with computing_in(BF16):
        apart = [network(view) for view in views]
        together = OnePass([network])(network, views)
    assert node(network[0], torch.cat(views), BF16) == "_WinogradBackward"
    assert together[0]._base is not None  # of the batch that both are in
    assert all(map(torch.equal, apart, together))


def trained(threads: int) -> tuple[list[float], list[Tensor]]:
    """Losses of a few steps and the weights after them, of a small network that our kernels compute in bf16."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.Conv2d(64, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    network = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    choose_convolutions(network, CPU)
    choose_norms(network, CPU)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    x, target, losses = images(64, 13, 10), torch.randn(16, 64, generator=torch.Generator().manual_seed(2)), []
    for _ in range(5):
        with computing_in(BF16):
            pooled = network(x)[:, :, 5, 5]
        loss = (pooled.double() - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.detach() for p in network.parameters()]


@needs_a_team
def test_a_short_training_is_the_same_to_the_bit() -> None:
    losses, weights = trained(1)
    assert losses[-1] < losses[0]
    for threads in (2, 3):
        others, other_weights = trained(threads)
        assert others == losses
        assert all(map(torch.equal, weights, other_weights))


@pytest.mark.parametrize(
    ("side", "precision", "threads", "amx", "compiles"),
    [
        (16, "fp32", 1, False, {(8, 8)}),
        (2, "fp32", 1, False, set()),
        (16, "fp32", 3, False, None),
        (16, "fp32", 1, True, {(8, 8)}),
        (16, "bf16", 1, False, {(8, 8)}),
        (4, "bf16", 1, False, set()),
        (16, "bf16", 1, True, None),
        (16, "fp16", 1, False, None),
    ],
)  # a map of half the side; threads that are not torch's
def test_kernels_are_compiled_before_where_they_are_used(
    side: int,
    precision: str,
    threads: int,
    amx: bool,
    compiles: set[tuple[int, int]] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(winograd, "prepare", lambda dtype, maps: calls.append(maps))
    monkeypatch.setattr(winograd, "is_x86_without_amx", lambda: not amx)
    monkeypatch.setattr(thread_team, "address", lambda: None if threads == 3 else 1)
    layers = [nn.Conv2d(1, 48, 3, 2, 1, bias=False), nn.BatchNorm2d(48), nn.Conv2d(48, 48, 3, 1, 1, bias=False)]
    network = nn.Sequential(*layers)
    choose_convolutions(network, CPU)
    before = copy.deepcopy(network.state_dict())
    torch.set_num_threads(threads)
    prepare_convolutions(network, images(1, side, side, n=1), precision)
    assert calls == ([] if compiles is None else [compiles])
    assert all(part.training and not part._forward_pre_hooks for part in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@both_formats
def test_kernels_compile(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """`prepare` computes what layers do with such maps, so that nothing is left to compile."""
    from barlowctl.kernels.winograd import functions as winograd_functions
    from barlowctl.kernels.winograd import threads as winograd_threads

    winograd.prepare(dtype, {(5, 7), (3, 3)})
    before = list(winograd_threads.call_together.signatures)
    assert before
    monkeypatch.setattr(winograd_functions, "cfunc", None)
    on(2, *drawn(3, 128, 64, 5, 7, dtype))
    on(1, *drawn(30, 256, 256, 3, 3, dtype))
    assert list(winograd_threads.call_together.signatures) == before


FORKED = """
import os, torch
from tests.model.cpu.test_winograd import BF16, drawn, on
case = drawn(9, 64, 64, 6, 6, BF16)
expected = on(2, *case)
child = os.fork()
if child == 0:  # as a loader's worker process is made, which has one thread: the parent's are not there
    torch.set_num_threads(1)
    os._exit(0 if all(map(torch.equal, expected, on(1, *case))) else 1)
assert os.waitpid(child, 0)[1] == 0
assert all(map(torch.equal, expected, on(2, *case)))
print("same")
"""


@needs_a_team
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_a_forked_process_computes_too() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout == "same\n", done.stderr


@needs_a_team
def test_a_batch_is_cut_for_the_threads_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many groups of tiles for each, and of the gradient of the weights as many sums, where that is possible."""
    from barlowctl.kernels.winograd import passes as winograd_passes
    from barlowctl.kernels.winograd import threads as winograd_threads

    tasks: list[Any] = []
    task_of = winograd_threads.task_of
    monkeypatch.setattr(
        winograd_threads, "task_of", lambda shape, **fields: tasks.append(fields) or task_of(shape, **fields)
    )
    torch.set_num_threads(3)
    x, weight, grad = drawn(100, 64, 64, 4, 4)
    winograd_passes.convolve(x, weight, 4, turned=False)
    winograd_passes.gradient_of_weight(x, grad, 4)
    _, convolution, correlation, _ = tasks
    assert -(-100 // convolution["group"]) % 3 == 0
    assert correlation["shares"] * correlation["across"] % 3 == 0
