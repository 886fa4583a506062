"""3 x 3 convolutions as Winograd computed them, on a CPU: that they are convolutions, how near, and where."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from barlowctl.model import thread_team, winograd
from barlowctl.model.fused_norm import choose_norms
from barlowctl.model.one_pass import OnePass
from barlowctl.model.product_convolution import ProductConvolution, choose_convolutions, prepare_convolutions

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SHAPES = [
    # n, c, d, height, width
    (6, 64, 64, 8, 8),
    (5, 128, 64, 6, 4),
    (3, 64, 192, 7, 9),
    (1, 64, 64, 1, 4),
    (2, 64, 64, 2, 1),
    (29, 64, 64, 3, 3),
    (1, 64, 64, 40, 34),
    (70, 64, 128, 5, 10),
]


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every processor; one without the instruction computes the same in float32."""
    monkeypatch.setattr(winograd, "is_measured", lambda: True)


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


def direct(x: Tensor, weight: Tensor) -> Tensor:
    return nn.functional.conv2d(x, weight, padding=1)


def whole(shape: tuple[int, ...], most: int, step: int, share: float, seed: int) -> Tensor:
    """Multiples of `step` up to `most`, a share of which is not 0: sums of a few hundred products fit in bf16."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-most, most + 1, shape, generator=generator) * step
    return by_channels((values * (torch.rand(shape, generator=generator) < share)).float())


@pytest.mark.parametrize(("n", "c", "d", "height", "width"), SHAPES)
def test_of_whole_numbers_it_is_the_convolution_exactly(n: int, c: int, d: int, height: int, width: int) -> None:
    """Nothing is rounded but the results that are bf16: each is the bf16 that is nearest to the true sum."""
    x, grad = whole((n, c, height, width), 3, 1, 0.5, 0), whole((n, d, height, width), 3, 1, 0.5, 1)
    weight = whole((d, c, 3, 3), 3, 2, 0.5, 2)  # even, so that halves are whole
    truth = results(direct, x.double(), weight.double(), grad.double())
    ours = results(winograd.convolve, x.bfloat16(), weight, grad.bfloat16())
    assert [part.dtype for part in ours] == [torch.bfloat16, torch.bfloat16, torch.float32]
    for part, true in zip(ours, truth, strict=True):
        assert part.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(part, true.to(part.dtype))


def drawn(n: int, c: int, d: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images after a ReLU, weights as they begin, and a gradient."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, c, height, width, generator=generator).relu()
    weight = torch.randn(d, c, 3, 3, generator=generator) * (2.0 / (9 * c)) ** 0.5
    grad = 1e-3 * torch.randn(n, d, height, width, generator=generator)
    return by_channels(x).bfloat16(), by_channels(weight), by_channels(grad).bfloat16()


@pytest.mark.parametrize(("n", "c", "d", "height", "width"), [(6, 64, 64, 16, 16), (8, 128, 128, 7, 7)])
def test_its_error_is_little_more_than_that_of_a_convolution_in_bf16(
    n: int, c: int, d: int, height: int, width: int
) -> None:
    """Against float64 with the weights that are trained, which both round."""
    x, weight, grad = drawn(n, c, d, height, width)
    truth = results(direct, x.double(), weight.double(), grad.double())
    torchs = results(lambda x, weight: direct(x, weight.bfloat16()), x, weight, grad)
    ours = results(winograd.convolve, x, weight, grad)
    for part, other, true, most in zip(ours, torchs, truth, (1.4, 1.6, 1.6), strict=True):
        error, usual = ((result.double() - true).norm() / true.norm() for result in (part, other))
        assert error <= most * usual


def layer_of(channels: int = 64, **changed: Any) -> nn.Conv2d:
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, 64, **{"kernel_size": 3, "padding": 1, "bias": False, **changed})
    layer = layer.to(memory_format=torch.channels_last)
    choose_convolutions(layer, CPU)
    return layer


def images(channels: int, height: int, width: int, n: int = 16) -> Tensor:
    return by_channels(torch.randn(n, channels, height, width, generator=torch.Generator().manual_seed(1)))


def node(layer: nn.Module, x: Tensor, dtype: torch.dtype = torch.bfloat16) -> str:
    """What autograd calls the operation."""
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        return type(layer(x).grad_fn).__name__


@pytest.mark.parametrize(
    ("channels", "height", "width", "n", "taken"),
    [
        (64, 8, 8, 16, True),
        (128, 4, 8, 16, True),
        (64, 8, 4, 16, True),
        (64, 16, 7, 16, True),
        (64, 20, 5, 16, True),
        (64, 16, 2, 16, True),
        (64, 32, 1, 16, False),
        (96, 8, 8, 16, False),
        (64, 8, 8, 7, False),
    ],
)
def test_only_those_are_computed_so_that_were_measured_to_be_faster(
    channels: int, height: int, width: int, n: int, taken: bool
) -> None:
    layer, x = layer_of(channels), images(channels, height, width, n)
    assert (node(layer, x) == "_WinogradBackward") == taken


CHANGES = [{"groups": 2}, {"bias": True}, {"dilation": 2}, {"padding": 0}, {"stride": 2}, {"padding": "same"},
           {"kernel_size": 5, "padding": 2}, {"padding_mode": "circular"}]  # fmt: skip


@pytest.mark.parametrize("changed", CHANGES, ids=str)
def test_others_stay_as_they_are(changed: dict[str, Any]) -> None:
    layer, x = layer_of(128, **changed), images(128, 8, 8)
    assert node(layer, x) != "_WinogradBackward"
    layer = layer_of(128)
    assert node(layer, x) == "_WinogradBackward"


@pytest.mark.parametrize("kind", ["contiguous", "evaluation", "no team", "weights in bf16", "processor"])
def test_all_else_is_torchs_own(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = layer_of(), images(64, 8, 8)
    before = copy.deepcopy(layer)
    before.__class__ = nn.Conv2d
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
        monkeypatch.setattr(winograd, "is_measured", lambda: False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x), before(x))


def test_amx_multiplies_faster_than_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    from barlowctl.model import winograd_vectors

    monkeypatch.undo()  # `measured`
    monkeypatch.setattr(winograd_vectors, "NATIVE", True)
    for features, measured in (({}, True), ({"amx-bf16": True}, False)):
        monkeypatch.setattr(winograd_vectors, "FEATURES", features)
        winograd.is_measured.cache_clear()
        assert winograd.is_measured() == measured
    winograd.is_measured.cache_clear()


def test_images_are_computed_one_by_one_and_always_the_same() -> None:
    x, weight, grad = drawn(35, 64, 64, 6, 6)
    together = results(winograd.convolve, x, weight, grad)
    for part, again in zip(together, results(winograd.convolve, x, weight, grad), strict=True):
        assert torch.equal(part, again)
    pairs = zip(x.split(16), grad.split(16), strict=True)
    apart = [results(winograd.convolve, images, weight, gradient) for images, gradient in pairs]
    for number in (0, 1):
        assert torch.equal(together[number], torch.cat([part[number] for part in apart]))
    torch.testing.assert_close(together[2], torch.stack([part[2] for part in apart]).sum(0), rtol=1e-4, atol=1e-4)


def test_activation_checkpointing_gives_the_same_gradients() -> None:
    layer, x = layer_of(), images(64, 8, 8)
    gradients = []
    for again in (False, True):
        layer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = checkpoint(layer, x, use_reentrant=False) if again else layer(x)
        out.float().square().sum().backward()
        gradients.append(layer.weight.grad)
    assert torch.equal(*gradients)


def test_only_the_gradients_that_are_asked_for() -> None:
    x, weight, grad = drawn(2, 64, 64, 4, 4)
    whole_of = results(winograd.convolve, x, weight, grad)
    x = x.requires_grad_()
    winograd.convolve(x, weight).backward(grad)
    assert torch.equal(x.grad, whole_of[1])
    weight = weight.requires_grad_()
    winograd.convolve(x.detach(), weight).backward(grad.contiguous())
    assert torch.equal(weight.grad, whole_of[2])


def test_weights_in_another_memory_format_are_the_same_weights() -> None:
    x, weight, grad = drawn(2, 64, 128, 4, 4)
    one, other = (results(winograd.convolve, x, values, grad) for values in (weight, weight.contiguous()))
    assert all(map(torch.equal, one, other))


def test_what_is_no_number_stays_so() -> None:
    x, weight, _ = drawn(2, 64, 64, 6, 6)
    x[1, 5, 2, 3] = float("nan")
    out = winograd.convolve(x, weight)
    assert torch.isnan(out[1, :, 1:4, 2:5]).all()
    assert torch.isfinite(out[0]).all()


def test_names_parameters_and_copies_stay() -> None:
    layer = layer_of()
    assert type(copy.deepcopy(layer)) is ProductConvolution
    assert list(layer.state_dict()) == ["weight"]
    node(layer, images(64, 8, 8))
    assert list(layer.state_dict()) == ["weight"]


def small_resnet() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"layers": [1, 1, 1, 1], "channels": [64, 64, 64, 128], "stem_type": "deep", "stem_width": 32}
    network = timm.create_model("resnet18", num_classes=0, in_chans=1, zero_init_last=False, **sizes)
    network.maxpool = nn.Identity()
    return network.to(memory_format=torch.channels_last)


def test_a_network_is_nearly_as_near_to_float64_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = small_resnet(), images(1, 32, 32)
    exact, ours = copy.deepcopy(network).double(), copy.deepcopy(network)
    choose_convolutions(ours, CPU)
    choose_norms(ours, CPU)
    without, true = copy.deepcopy(ours), exact(x.double())
    true.square().sum().backward()
    errors = []
    for of in (without, ours):
        monkeypatch.setattr(winograd, "is_measured", lambda of=of: of is ours)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = of(x)
        out.float().square().sum().backward()
        gradients = (torch.cat([p.grad.double().flatten() for p in n.parameters()]) for n in (of, exact))
        errors.append([(out.double() - true).norm(), torch.sub(*gradients).norm()])
    for before, after in zip(*errors, strict=True):
        assert before != after
        assert after < 1.25 * before


def test_both_views_go_in_one_pass() -> None:
    network = nn.Sequential(layer_of(), nn.BatchNorm2d(64), nn.ReLU())
    choose_norms(network, CPU)
    views = [images(64, 8, 8), images(64, 8, 8).flip(3)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        apart = [network(view) for view in views]
        together = OnePass([network])(network, views)
        assert node(network[0], torch.cat(views)) == "_WinogradBackward"
    assert together[0]._base is not None  # of the batch that both are in
    assert all(map(torch.equal, apart, together))


@pytest.mark.parametrize(
    ("side", "threads", "compiles"), [(16, 1, True), (2, 1, False), (16, 2, True), (16, 3, False)]
)  # a map of half the side
def test_kernels_are_compiled_before_where_they_are_used(
    side: int, threads: int, compiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(winograd, "prepare", lambda: calls.append(1))
    layers = [nn.Conv2d(1, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.Conv2d(64, 64, 3, 1, 1, bias=False)]
    network = nn.Sequential(*layers)
    choose_convolutions(network, CPU)
    before = copy.deepcopy(network.state_dict())
    torch.set_num_threads(threads)
    monkeypatch.setattr(thread_team, "address", lambda: None if threads == 3 else 1)
    prepare_convolutions(network, images(1, side, side, n=1), "bf16")
    assert bool(calls) == compiles
    assert all(part.training and not part._forward_pre_hooks for part in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_kernels_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    """`prepare` computes what a layer does, so that nothing is left to compile."""
    from barlowctl.model import winograd_kernels

    winograd.prepare()
    for kernel in ("convolve", "correlate", "transform_weights", "transform_turned_weights", "gather_gradient"):
        compiled = getattr(winograd_kernels, kernel)
        before = list(compiled.signatures)
        assert before
        results(winograd.convolve, *drawn(3, 128, 64, 5, 7))
        assert list(compiled.signatures) == before


@pytest.mark.slow
def test_a_processor_without_the_instruction_computes_the_same(tmp_path: Path) -> None:
    here = f"{Path(__file__)}::test_of_whole_numbers_it_is_the_convolution_exactly[6-64-64-8-8]"
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", here]
    done = subprocess.run(command, env={**os.environ, **plain}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
