"""3 x 3 convolutions in float32 as Winograd computed them in two dimensions: how near, where, and by whom."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from barlowctl.model import thread_team, winograd2d
from barlowctl.model.product_convolution import ProductConvolution, choose_convolutions, prepare_convolutions

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
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
]
ERROR = 4e-6
"""The most that a result is off, relative to the norm of all; a result's largest error, to its largest value."""


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


def drawn(n: int, c: int, d: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Images after a ReLU, weights as they begin, and a gradient."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, c, height, width, generator=generator).relu()
    weight = torch.randn(d, c, 3, 3, generator=generator) * (2.0 / (9 * c)) ** 0.5
    grad = 1e-3 * torch.randn(n, d, height, width, generator=generator)
    return by_channels(x), by_channels(weight), by_channels(grad)


def truth_of(x: Tensor, weight: Tensor, grad: Tensor) -> list[Tensor]:
    return results(by_definition, x.double(), weight.double(), grad.double())


def relative(part: Tensor, truth: Tensor) -> float:
    return ((part.double() - truth).norm() / truth.norm()).item()


@pytest.mark.parametrize(("n", "c", "d", "height", "width"), SHAPES)
def test_it_is_the_convolution_up_to_rounding(n: int, c: int, d: int, height: int, width: int) -> None:
    case = drawn(n, c, d, height, width)
    for part, truth in zip(results(winograd2d.convolve, *case), truth_of(*case), strict=True):
        assert part.dtype == torch.float32
        assert part.is_contiguous(memory_format=torch.channels_last)
        assert relative(part, truth) < ERROR
        assert (part - truth).abs().max() < ERROR * truth.abs().max()


@pytest.mark.parametrize(("side", "m", "most"), [(8, 4, 5.0), (6, 3, 3.5), (10, 2, 2.5)])
def test_its_error_is_a_few_times_that_of_torch(side: int, m: int, most: float) -> None:
    """Output and gradient of x; the gradient of the weight is as near."""
    case = drawn(8, 128, 128, side, side)
    truth, torchs = truth_of(*case), results(lambda x, weight: nn.functional.conv2d(x, weight, padding=1), *case)

    def convolve(x: Tensor, weight: Tensor) -> Tensor:
        out: Tensor = winograd2d._Winograd2d.apply(x, weight, m)
        return out

    for part, other, true in zip(results(convolve, *case), torchs, truth, strict=True):
        assert relative(part, true) < most * max(relative(other, true), 1.8e-7)


def test_sums_over_many_tiles_do_not_lose_what_they_add() -> None:
    """The gradient of the weight of 10,240 tiles, of numbers of one sign, whose sum is large beside each of them."""
    x, weight, grad = drawn(160, 16, 16, 32, 32)
    grad = grad.abs()
    x = results(winograd2d.convolve, x, weight, grad)[2], truth_of(x, weight, grad)[2]
    assert relative(*x) < ERROR


THREADS = (2, 3, 5, 8)
needs_a_team = pytest.mark.skipif(
    thread_team.address() is None, reason="torch has no threads here that kernels can use"
)


def on(threads: int, *case: Tensor) -> list[Tensor]:
    torch.set_num_threads(threads)
    return results(winograd2d.convolve, *case)


@needs_a_team
@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_are_those_of_one_thread_to_the_bit(shape: tuple[int, int, int, int, int]) -> None:
    alone = on(1, *drawn(*shape))
    for threads in THREADS:
        assert all(map(torch.equal, alone, on(threads, *drawn(*shape)))), threads


@needs_a_team
def test_several_threads_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    from barlowctl.model import winograd2d_passes, winograd2d_threads

    crews: list[Any] = []
    call_together = winograd2d_threads.call_together
    replacement = lambda crew, *rest: crews.append(crew) or call_together(crew, *rest)  # noqa: E731
    monkeypatch.setattr(winograd2d_passes.winograd2d_threads, "call_together", replacement)
    for threads in (1, 3):
        crews.clear()
        on(threads, *drawn(6, 64, 64, 8, 8))
        assert {crew[1] for crew in crews} == {threads}
        assert len(crews) == 6  # weights and tiles, twice; sums and what is made of them


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


def node(layer: nn.Module, x: Tensor) -> str:
    """What autograd calls the operation."""
    return type(layer(x).grad_fn).__name__


@pytest.mark.parametrize(
    ("channels", "height", "width", "n", "taken"),
    [
        (64, 8, 8, 16, True),
        (48, 8, 8, 16, True),
        (40, 8, 8, 16, False),
        (64, 3, 16, 16, True),
        (64, 16, 2, 16, True),
        (64, 2, 16, 16, True),
        (64, 32, 1, 16, False),
        (64, 1, 32, 16, False),
        (64, 8, 8, 5, False),
        (64, 8, 8, 6, True),
    ],
)
def test_only_those_are_computed_so_that_were_measured_to_be_faster(
    channels: int, height: int, width: int, n: int, taken: bool
) -> None:
    layer, x = layer_of(channels), images(channels, height, width, n)
    assert (node(layer, x) == "_Winograd2dBackward") == taken


@pytest.mark.parametrize(
    ("height", "width", "m"),
    [(32, 32, 4), (8, 8, 4), (7, 7, 4), (6, 6, 3), (5, 5, 3), (4, 4, 4), (3, 3, 3), (2, 10, 2)],
)
def test_a_tile_has_the_side_with_the_fewest_products(height: int, width: int, m: int) -> None:
    assert winograd2d.tile_side(height, width) == m


CHANGES = [{"groups": 2}, {"bias": True}, {"dilation": 2}, {"padding": 0}, {"stride": 2}, {"padding": "same"},
           {"kernel_size": 5, "padding": 2}, {"padding_mode": "circular"}]  # fmt: skip


@pytest.mark.parametrize("changed", CHANGES, ids=str)
def test_others_stay_as_they_are(changed: dict[str, Any]) -> None:
    layer, x = layer_of(128, **changed), images(128, 8, 8)
    assert node(layer, x) != "_Winograd2dBackward"
    assert node(layer_of(128), x) == "_Winograd2dBackward"


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


def test_images_are_computed_one_by_one_and_always_the_same() -> None:
    x, weight, grad = drawn(48, 64, 64, 6, 6)
    together = results(winograd2d.convolve, x, weight, grad)
    assert all(map(torch.equal, together, results(winograd2d.convolve, x, weight, grad)))
    pairs = zip(x.split(20), grad.split(20), strict=True)
    apart = [results(winograd2d.convolve, part, weight, gradient) for part, gradient in pairs]
    for number in (0, 1):
        assert torch.equal(together[number], torch.cat([part[number] for part in apart]))
    torch.testing.assert_close(together[2], torch.stack([part[2] for part in apart]).sum(0), rtol=1e-4, atol=1e-5)


def test_activation_checkpointing_gives_the_same_gradients() -> None:
    layer, x = layer_of(), images(64, 8, 8)
    gradients = []
    for again in (False, True):
        layer.zero_grad()
        out = checkpoint(layer, x, use_reentrant=False) if again else layer(x)
        out.square().sum().backward()
        gradients.append(layer.weight.grad)
    assert torch.equal(*gradients)


def test_only_the_gradients_that_are_asked_for() -> None:
    x, weight, grad = drawn(8, 64, 64, 4, 4)
    whole = results(winograd2d.convolve, x, weight, grad)
    x = x.requires_grad_()
    winograd2d.convolve(x, weight).backward(grad)
    assert torch.equal(x.grad, whole[1])
    weight = weight.requires_grad_()
    winograd2d.convolve(x.detach(), weight).backward(grad.contiguous())
    assert torch.equal(weight.grad, whole[2])


def test_weights_in_another_memory_format_are_the_same_weights() -> None:
    for shape in ((8, 64, 128, 4, 4), (8, 256, 256, 4, 4)):
        x, weight, grad = drawn(*shape)
        one, other = (results(winograd2d.convolve, x, values, grad) for values in (weight, weight.contiguous()))
        assert all(map(torch.equal, one, other))


def test_what_torch_makes_tensors_of_by_default_changes_nothing() -> None:
    case = drawn(40, 64, 64, 4, 4)
    expected = results(winograd2d.convolve, *case)
    torch.set_default_dtype(torch.float64)
    try:
        assert all(map(torch.equal, expected, results(winograd2d.convolve, *case)))
    finally:
        torch.set_default_dtype(torch.float32)


def test_what_is_no_number_stays_so() -> None:
    x, weight, _ = drawn(30, 64, 64, 6, 6)
    x[1, 5, 2, 3] = float("nan")
    out = winograd2d.convolve(x, weight)
    assert torch.isnan(out[1, :, 1:4, 2:5]).all()
    assert torch.isfinite(out[[0, *range(2, 30)]]).all()


def test_names_parameters_and_copies_stay() -> None:
    layer = layer_of()
    assert type(copy.deepcopy(layer)) is ProductConvolution
    node(layer, images(64, 8, 8))
    assert list(layer.state_dict()) == ["weight"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_network_is_nearly_as_near_to_float64_with_them(seed: int) -> None:
    """Output and all gradients of a ResNet, whose activation has no corner: there, rounding turns gradients."""
    torch.manual_seed(seed)
    sizes = {"layers": [1, 1, 1, 1], "channels": [64, 64, 64, 128], "stem_type": "deep", "stem_width": 32}
    network = timm.create_model("resnet18", num_classes=0, in_chans=1, act_layer=nn.SiLU, zero_init_last=False, **sizes)
    network.maxpool = nn.Identity()
    network = network.to(memory_format=torch.channels_last)
    x = by_channels(torch.randn(16, 1, 32, 32))
    exact, ours = copy.deepcopy(network).double(), copy.deepcopy(network)
    choose_convolutions(ours, CPU)
    outputs, gradients = [], []
    for of in (exact, network, ours):
        out = of(x.to(next(of.parameters()).dtype))
        out.square().sum().backward()
        outputs.append(out.double())
        gradients.append(torch.cat([p.grad.double().flatten() for p in of.parameters()]))
    for true, torchs, own in (outputs, gradients):
        assert not torch.equal(torchs, own)
        assert relative(own, true) < 2 * relative(torchs, true) < 2e-5


@pytest.mark.parametrize(
    ("side", "precision", "threads", "compiles"),
    [(16, "fp32", 1, True), (2, "fp32", 1, False), (16, "bf16", 1, False), (16, "fp32", 3, False)],
)  # a map of half the side
def test_kernels_are_compiled_before_where_they_are_used(
    side: int, precision: str, threads: int, compiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(winograd2d, "prepare", lambda: calls.append(1))
    monkeypatch.setattr(thread_team, "address", lambda: None if threads == 3 else 1)
    layers = [nn.Conv2d(1, 48, 3, 2, 1, bias=False), nn.BatchNorm2d(48), nn.Conv2d(48, 48, 3, 1, 1, bias=False)]
    network = nn.Sequential(*layers)
    choose_convolutions(network, CPU)
    torch.set_num_threads(threads)
    prepare_convolutions(network, images(1, side, side, n=1), precision)
    assert bool(calls) == compiles
    assert all(part.training and not part._forward_pre_hooks for part in network.modules())


def test_kernels_compile() -> None:
    """`prepare` computes what a layer does, so that nothing is left to compile."""
    from barlowctl.model import winograd2d_threads

    winograd2d.prepare()
    before = list(winograd2d_threads.call_together.signatures)
    assert before
    on(2, *drawn(3, 128, 64, 5, 7))
    on(1, *drawn(30, 256, 256, 3, 3))
    assert list(winograd2d_threads.call_together.signatures) == before


PROCESSORS = {
    "no vectors to speak of": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
    "AVX2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma"},
}


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_other_processors_compute_the_same(processor: str, tmp_path: Path) -> None:
    if processor == "AVX2" and not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        pytest.skip("this processor has none")
    here = f"{Path(__file__)}::test_it_is_the_convolution_up_to_rounding"
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", here]
    environment = {**os.environ, **PROCESSORS[processor], "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
