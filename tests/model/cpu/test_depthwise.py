"""Gradients of depthwise convolutions: that they are those of the convolution, how exact, and where they are taken."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from barlowctl.kernels import thread_team
from barlowctl.kernels.float_vectors import LANES
from barlowctl.model.cpu import depthwise
from barlowctl.model.cpu.depthwise import DepthwiseConvolution, choose_depthwise
from barlowctl.model.cpu.pixel_products import map_of
from barlowctl.model.cpu.product_convolution import choose_convolutions, prepare_convolutions
from barlowctl.model.cpu.seen_taps import SeenTaps
from tests.model.cpu.convolution_shapes import Shape

BF16, CPU = torch.bfloat16, torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")
SHAPES = [
    Shape(2, 16, 16, (5, 7), (3, 3), (1, 1), (1, 1)),
    Shape(3, 24, 24, (9, 6), (3, 3), (2, 2), (1, 1)),  # the second strip overlaps the first
    Shape(17, 40, 40, (8, 8), (5, 5), (2, 2), (2, 2)),  # more images than shares
    Shape(2, 96, 96, (12, 12), (7, 7), (1, 1), (3, 3)),
    Shape(1, 33, 33, (1, 1), (3, 3), (2, 2), (1, 1)),  # most taps see padding alone
    Shape(2, 32, 32, (10, 11), (3, 5), (2, 1), (0, 2)),
    Shape(2, 48, 48, (15, 14), (9, 9), (1, 1), (4, 4)),  # more taps in a row than are summed at a time
    Shape(2, 20, 20, (7, 7), (5, 5), (3, 3), (1, 1)),  # the last pixels are seen by nothing
]


def drawn(shape: Shape, dtype: torch.dtype = BF16) -> list[Tensor]:
    """A map, weights, a bias, and a gradient of the result."""
    generator = torch.Generator().manual_seed(shape.images)
    size = map_of(shape.size, shape.kernel, shape.stride, shape.padding)
    x = torch.randn(shape.images, shape.channels, *shape.size, generator=generator)
    grad = torch.randn(shape.images, shape.channels, *size, generator=generator)
    weight = torch.randn(shape.channels, 1, *shape.kernel, generator=generator)
    maps = (part.to(dtype).contiguous(memory_format=torch.channels_last) for part in (x, grad))
    x, grad = maps
    return [x, weight, torch.randn(shape.channels, generator=generator), grad]


def results(shape: Shape, x: Tensor, weight: Tensor, bias: Tensor, grad: Tensor) -> list[Tensor]:
    x, weight, bias = (part.detach().requires_grad_() for part in (x, weight, bias))
    out = depthwise.convolve(x, weight, bias, shape.stride, shape.padding)
    return [out.detach(), *torch.autograd.grad(out, (x, weight, bias), grad)]


def in_float64(shape: Shape, x: Tensor, weight: Tensor, bias: Tensor, grad: Tensor) -> list[Tensor]:
    """Of weights that are rounded as x is."""
    x, weight, bias = (part.to(x.dtype).double().requires_grad_() for part in (x, weight, bias))
    out = nn.functional.conv2d(x, weight, bias, shape.stride, shape.padding, groups=len(weight))
    return [out.detach(), *torch.autograd.grad(out, (x, weight, bias), grad.double())]


@pytest.mark.parametrize("dtype", [BF16, torch.float32], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_are_those_of_the_convolution(shape: Shape, dtype: torch.dtype) -> None:
    """Sums are float32's; that of the map is rounded once, those of weight and bias are not."""
    case = drawn(shape, dtype)
    made, exact = results(shape, *case), in_float64(shape, *case)
    assert [part.dtype for part in made] == [dtype, dtype, torch.float32, torch.float32]
    for own, true in zip(made, exact, strict=True):
        assert own.shape == true.shape
    assert made[1].is_contiguous(memory_format=torch.channels_last)
    rounding = (exact[1].to(dtype).double() - exact[1]).abs()
    assert bool(((made[1].double() - exact[1]).abs() <= rounding + 2e-6 * exact[1].abs().max()).all())
    for own, true in zip(made[2:], exact[2:], strict=True):
        assert (own.double() - true).norm() <= 1e-6 * true.norm()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_the_same_to_the_bit_however_it_is_divided(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among threads, into strips of channels, and wherever the map begins in memory."""
    case = drawn(shape)
    expected = results(shape, *case)
    for threads in (2, 5):
        if thread_team.address() is not None:
            torch.set_num_threads(threads)
            assert all(map(torch.equal, results(shape, *case), expected))
    torch.set_num_threads(1)
    monkeypatch.setattr(depthwise, "IN_CACHE", 1)
    depthwise.plan_of.cache_clear()
    assert all(map(torch.equal, results(shape, *case), expected))
    depthwise.plan_of.cache_clear()
    x = torch.cat([case[0][:1], case[0]])[1:]
    assert x.storage_offset() > 0
    assert all(map(torch.equal, results(shape, x, *case[1:]), expected))


@pytest.mark.parametrize("shape", SHAPES[1:6], ids=str)
def test_what_lay_in_memory_before_does_not_count(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    case, empty, like = drawn(shape), torch.empty, torch.empty_like
    expected = results(shape, *case)

    def left_over(*sizes: Any, **options: Any) -> Tensor:
        room = empty(*sizes, **options)
        return room.fill_(255 if room.dtype == torch.uint8 else float("nan"))  # four of 255 are no number either

    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", left_over)
        patch.setattr(torch, "empty_like", lambda x: like(x).fill_(float("nan")))
        made = results(shape, *case)
    assert all(map(torch.equal, made, expected))


def test_what_is_no_number_goes_where_it_is_seen_and_nowhere_else() -> None:
    shape = Shape(2, 32, 32, (9, 9), (3, 3), (2, 2), (1, 1))
    x, weight, bias, grad = drawn(shape)
    x[1, 5, 4, 4] = torch.nan  # an even pixel is seen by the middle tap alone
    grad[0, 7, 1, 2] = torch.inf
    of_x, of_weight = results(shape, x, weight, bias, grad)[1:3]
    seen = torch.zeros(x.shape, dtype=torch.bool)
    seen[0, 7, 1:4, 3:6] = True
    assert torch.equal(~of_x.isfinite(), seen)
    taps = torch.zeros(32, 1, 3, 3, dtype=torch.bool)
    taps[5, 0, 1, 1] = taps[7] = True
    assert torch.equal(~of_weight.isfinite(), taps)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_a_gradient_that_nobody_wants_is_not_computed(frozen: int) -> None:
    shape = SHAPES[2]
    x, weight, bias, grad = drawn(shape)
    given, expected = (x, weight, bias), results(shape, x, weight, bias, grad)[1:]
    parts = [part.detach().requires_grad_(place != frozen) for place, part in enumerate(given)]
    depthwise.convolve(parts[0], parts[1], parts[2], shape.stride, shape.padding).backward(grad)
    for place, (part, true) in enumerate(zip(parts, expected, strict=True)):
        assert part.grad is None if place == frozen else torch.equal(part.grad, true)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kernel", "stride", "dtype", "faster"),
    [
        (3, 1, BF16, False),
        (3, 2, BF16, True),
        (3, 2, torch.float32, False),
        (5, 1, torch.float32, True),
        (7, 1, BF16, True),
    ],
)
def test_where_gradients_are_faster_here(kernel: int, stride: int, dtype: torch.dtype, faster: bool) -> None:
    assert depthwise.is_faster((kernel, 3), (stride, 1), dtype) == faster


@pytest.mark.parametrize(
    ("convolution", "taken"),
    [
        (nn.Conv2d(32, 32, 5, padding=2, groups=32), True),
        (nn.Conv2d(32, 32, (3, 5), stride=2, groups=32, bias=False), True),
        (nn.Conv2d(32, 64, 5, groups=32), False),  # two results of each channel
        (nn.Conv2d(32, 32, 5, groups=16), False),
        (nn.Conv2d(32, 32, 1, groups=32), False),
        (nn.Conv2d(32, 32, 5, groups=32, dilation=2), False),
        (nn.Conv2d(32, 32, 5, groups=32, padding=5), False),  # results that see padding alone
        (nn.Conv2d(32, 32, 5, groups=32, padding=2, padding_mode="reflect"), False),
        (nn.Conv2d(32, 32, 5, groups=32, padding="same"), False),
        (nn.Conv2d(1, 1, 5), False),
    ],
    ids=str,
)
def test_which_convolutions_it_is(convolution: nn.Module, taken: bool) -> None:
    network = nn.Sequential(convolution)
    names = list(network.state_dict())
    choose_convolutions(network, CPU)
    assert isinstance(network[0], DepthwiseConvolution) == taken
    assert list(network.state_dict()) == names


def test_those_of_other_devices_are_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(32, 32, 5, groups=32))
    choose_convolutions(network, torch.device("meta"))
    assert type(network[0]) is nn.Conv2d


def test_one_that_goes_without_unseen_taps_becomes_one() -> None:
    network = nn.Sequential(SeenTaps(32, 32, 5, groups=32))
    choose_depthwise(network)
    assert type(network[0]) is DepthwiseConvolution


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    made: list[torch.dtype] = []
    convolve = depthwise.convolve

    def noted(x: Tensor, *others: Any) -> Tensor:
        made.append(x.dtype)
        return convolve(x, *others)

    monkeypatch.setattr(depthwise, "convolve", noted)
    return made


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("nothing", [BF16]),
        ("fp32", [torch.float32]),
        ("fp16", []),
        ("evaluation", []),
        ("layout", []),
        ("half a vector", []),
        ("no image", []),
        ("small", [BF16]),
    ],
)
def test_where_a_convolution_takes_it(changed: str, expected: list[torch.dtype], calls: list[torch.dtype]) -> None:
    """And that the result is torch's."""
    channels = LANES - 1 if changed == "half a vector" else 2 * LANES
    convolution = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
    network = nn.Sequential(convolution)
    size = 2 if changed == "small" else 9
    x = torch.randn(0 if changed == "no image" else 3, channels, size, size).to(memory_format=torch.channels_last)
    if changed == "layout":
        x = x.contiguous()
    precision = {"fp32": torch.float32, "fp16": torch.float16}.get(changed, BF16)
    with torch.autocast("cpu", dtype=precision if precision != torch.float32 else BF16, enabled=changed != "fp32"):
        true = network(x).detach()
        choose_convolutions(network, CPU)
        network.train(changed != "evaluation")
        made = network(x)
    assert calls == expected
    assert made.dtype == true.dtype
    assert torch.allclose(made.detach(), true, rtol=1e-2, atol=1e-2)


def test_kernels_are_compiled_before_where_they_are_used(calls: list[torch.dtype]) -> None:
    images = torch.zeros(2, 32, 8, 8).to(memory_format=torch.channels_last)
    for network, precision, expected in (
        (nn.Sequential(nn.Conv2d(32, 32, 5, groups=32)), "bf16", [BF16]),
        (nn.Sequential(nn.Conv2d(32, 32, 5, groups=32)), "fp32", [torch.float32]),
        (nn.Sequential(nn.Conv2d(32, 32, 5, groups=32)), "fp16", []),
        (nn.Sequential(nn.Conv2d(32, 32, 5)), "bf16", []),
        (nn.Sequential(nn.Conv2d(LANES // 2, LANES // 2, 5, groups=LANES // 2)), "bf16", []),
    ):
        calls.clear()
        choose_convolutions(network, CPU)
        prepare_convolutions(network, images[:, : network[0].in_channels], precision)
        assert calls == expected
