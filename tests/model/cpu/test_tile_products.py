"""Convolutions by tiles or vectors of bf16: that they are the convolution, how exact, and where they are taken.

Results are tested on every processor: where it has no instruction for such products, they are made of others.
"""

from __future__ import annotations

import copy
import itertools
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numba import njit
from torch import Tensor, nn

from barlowctl import processor
from barlowctl.kernels import thread_team
from barlowctl.kernels.tiles import packing as tile_packing
from barlowctl.model.cpu import convolution_ways, tile_products, tile_rows
from barlowctl.model.cpu.convolution_ways import Passes, Way, passes_by_tiles, way_in_bf16
from barlowctl.model.cpu.fused_blocks import choose_norms
from barlowctl.model.cpu.product_convolution import ProductConvolution, choose_convolutions, prepare_convolutions
from tests.model.cpu.convolution_shapes import Shape, drawn

CPU, BF16 = torch.device("cpu"), torch.bfloat16
on_any_processor = pytest.mark.usefixtures("multiplies_bf16")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SHAPES = [
    Shape(32, 32, 32, (1, 1)),
    Shape(32, 64, 32, (4, 4)),
    Shape(33, 32, 96, (3, 5)),  # 31 images of zeros
    Shape(70, 96, 64, (5, 4), stride=(2, 2)),
    Shape(64, 32, 64, (8, 8)),
    Shape(5, 32, 32, (2, 3), (5, 5), padding=(2, 2)),
    Shape(40, 32, 32, (6, 9), (3, 5), (2, 3), (0, 2)),
    Shape(32, 32, 64, (4, 4), (2, 2), (2, 2), (0, 0)),
    Shape(32, 64, 32, (5, 7), (1, 1), (2, 2), (0, 0)),  # some pixels of the map are seen by none
    Shape(64, 64, 32, (2, 2), (2, 2), (2, 2), (1, 1)),  # corners
]


def results(shape: Shape, x: Tensor, weight: Tensor, grad: Tensor, **passes: Any) -> list[Tensor]:
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    out = tile_products.convolve(x, weight, shape.stride, shape.padding, **passes)
    return [out.detach(), *torch.autograd.grad(out, (x, weight), grad)]


def by_definition(shape: Shape, x: Tensor, weight: Tensor, grad: Tensor) -> list[Tensor]:
    """In float64, tap by tap."""
    x, weight, grad = x.double(), weight.double(), grad.double()
    around = nn.functional.pad(x, (*[shape.padding[1]] * 2, *[shape.padding[0]] * 2))
    out, of_around, of_weight = torch.zeros_like(grad), torch.zeros_like(around), torch.zeros_like(weight)
    height, width = grad.shape[2:]
    for row, column in itertools.product(*map(range, shape.kernel)):
        where = (
            slice(row, row + shape.stride[0] * (height - 1) + 1, shape.stride[0]),
            slice(column, column + shape.stride[1] * (width - 1) + 1, shape.stride[1]),
        )
        seen, tap = around[:, :, *where], weight[:, :, row, column]
        out += torch.einsum("ncij,dc->ndij", seen, tap)
        of_around[:, :, *where] += torch.einsum("ndij,dc->ncij", grad, tap)
        of_weight[:, :, row, column] = torch.einsum("ndij,ncij->dc", grad, seen)
    top, left = shape.padding
    of_x = of_around[:, :, top : top + shape.size[0], left : left + shape.size[1]]
    return [out, of_x, of_weight]


@on_any_processor
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_the_convolution(shape: Shape) -> None:
    """Sums are float32's, and what is written in bfloat16 is rounded once; the gradient of the weight is not."""
    case = drawn(shape)
    ours, exact = results(shape, *case), by_definition(shape, *case)
    assert [part.dtype for part in ours] == [BF16, BF16, torch.float32]
    for one, true in zip(ours, exact, strict=True):
        assert one.is_contiguous(memory_format=torch.channels_last)
        assert one.shape == true.shape
    for one, true in zip(ours[:2], exact[:2], strict=True):
        rounded = true.float().to(BF16).double()
        error = (one.double() - true).abs()
        assert bool((error <= (rounded - true).abs() + 2e-6 * true.abs().max()).all())
    assert (ours[2].double() - exact[2]).norm() <= 1e-6 * exact[2].norm()


@on_any_processor
@pytest.mark.parametrize("shape", [SHAPES[2], SHAPES[3], Shape(200, 32, 128, (4, 4))], ids=str)
def test_it_is_the_same_to_the_bit_however_it_is_divided(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among threads, and by what fits into the processor's cache; and wherever the map begins in memory."""
    case = drawn(shape)
    expected = results(shape, *case)
    for threads in (2, 3):
        if thread_team.address() is not None:
            torch.set_num_threads(threads)
            assert all(map(torch.equal, results(shape, *case), expected))
    torch.set_num_threads(1)
    monkeypatch.setattr(tile_products, "IN_CACHE", 1)
    assert all(map(torch.equal, results(shape, *case), expected))
    x = torch.cat([torch.ones_like(case[0][:3]), case[0]])[3:]
    assert x.storage_offset() > 0
    assert all(map(torch.equal, results(shape, x, *case[1:]), expected))


@on_any_processor
def test_each_pass_is_onednns_where_it_is_to_be() -> None:
    shape = Shape(64, 64, 32, (5, 5), stride=(2, 2))
    case = drawn(shape)
    x, weight = case[0].requires_grad_(), case[1].to(BF16).requires_grad_()
    out = nn.functional.conv2d(x, weight, None, shape.stride, shape.padding)
    of_x, of_weight = torch.autograd.grad(out, (x, weight), case[2])
    theirs, ours = [out.detach(), of_x, of_weight.float()], results(shape, *case)
    assert not torch.equal(theirs[2], ours[2])  # rounded to bfloat16
    for passes in itertools.product([False, True], repeat=3):
        mixed = results(shape, *case, passes=passes)
        for number, by_tiles in enumerate(passes):
            expected = ours[number] if by_tiles else theirs[number]
            torch.testing.assert_close(mixed[number], expected, atol=0, rtol=0)


@on_any_processor
def test_what_is_no_number_goes_where_it_is_seen_and_nowhere_else() -> None:
    shape = Shape(40, 32, 32, (4, 4))
    x, weight, grad = drawn(shape)
    x[35, 7, 0, 0], x[1, 3, 3, 3] = float("nan"), float("inf")
    out, of_x, of_weight = results(shape, x, weight, grad)
    corner = torch.zeros(4, 4, dtype=torch.bool)
    corner[:2, :2] = True
    assert torch.equal(out[35].isnan().all(0), corner)
    assert torch.equal(out[1].isinf().all(0), corner.flip(0, 1))
    others = [image for image in range(40) if image not in (1, 35)]
    assert bool(out[others].isfinite().all())
    assert bool(of_x.isfinite().all())
    assert torch.equal((~of_weight.isfinite()).any(0).any(-1).any(-1).nonzero().flatten(), torch.tensor([3, 7]))


@on_any_processor
def test_a_gradient_that_nobody_needs_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = SHAPES[1]
    x, weight, grad = drawn(shape)
    x.requires_grad_()
    with monkeypatch.context() as patch:
        patch.setattr(tile_products, "_gradient_of_weight", None)
        tile_products.convolve(x, weight, shape.stride, shape.padding).backward(grad)
    assert torch.equal(x.grad, results_of_x(shape, x, weight, grad))  # type: ignore[arg-type]
    weight.requires_grad_()
    calls, convolve = list[bool](), tile_products._convolve
    monkeypatch.setattr(
        tile_products, "_convolve", lambda *of, turned: (calls.append(turned), convolve(*of, turned=turned))[1]
    )
    tile_products.convolve(x.detach(), weight, shape.stride, shape.padding).backward(grad)
    assert calls == [False]


def results_of_x(shape: Shape, x: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
    size = tuple(grad.shape[2:])
    pairs = tile_products.pairs_of(shape.size, shape.kernel, size, shape.stride, shape.padding)
    return tile_products._convolve(grad, weight.to(BF16), shape.size, pairs.of_map, turned=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pairs_are_those_of_the_definition(shape: Shape) -> None:
    (height, width), (rows, columns) = shape.size, shape.kernel
    size = tile_products.map_of(shape.size, shape.kernel, shape.stride, shape.padding)
    expected = set[tuple[int, int, int]]()
    for i, j, row, column in itertools.product(*map(range, (*size, rows, columns))):
        y = i * shape.stride[0] + row - shape.padding[0]
        x = j * shape.stride[1] + column - shape.padding[1]
        if 0 <= y < height and 0 <= x < width:
            expected.add((i * size[1] + j, y * width + x, row * columns + column))
    pairs = tile_products.pairs_of(shape.size, shape.kernel, size, shape.stride, shape.padding)
    by_result = [(key, seen, tap) for key, (seen, tap) in listed(pairs.of_result)]
    by_map = [(result, key, tap) for key, (result, tap) in listed(pairs.of_map)]
    by_tap = [
        (result + number, seen + number * step, key)
        for key, (result, seen, count, step) in listed(pairs.of_taps)
        for number in range(count)
    ]
    for made in (by_result, by_map, by_tap):
        assert len(made) == len(expected)
        assert set(made) == expected
    assert len(pairs.of_result.starts) == size[0] * size[1] + 1
    assert len(pairs.of_map.starts) == height * width + 1
    assert len(pairs.of_taps.starts) == rows * columns + 1


def listed(order: tile_products._Order) -> list[tuple[int, list[int]]]:
    starts, values = order.starts.tolist(), order.pairs.tolist()
    return [(key, values[at]) for key in range(len(starts) - 1) for at in range(starts[key], starts[key + 1])]


@njit
def _pack_seen(x, zeros, sizes, first, pixel, out, block_size):
    tile_packing.pack_seen(x, zeros, sizes[0], sizes[1], sizes[2], first, pixel, out, block_size)


@njit
def _pack_gradients(x, zeros, sizes, first, pixel, out, block_size, room):
    tile_packing.pack_gradients(x, zeros, sizes[0], sizes[1], sizes[2], first, pixel, out, block_size, room)


@njit
def _pack_weights(weights, taps, channels, out_channels, block, out, turned):
    if turned:
        tile_packing.pack_turned_weights(weights, taps, channels, out_channels, block, out)
    else:
        tile_packing.pack_weights(weights, taps, channels, out_channels, block, out)


def test_images_are_packed_as_factors() -> None:
    """A factor on the right has rows of pairs of images; one on the left has channels as rows."""
    images, pixels, channels, first, pixel = 45, 3, 64, 32, 1
    x = np.arange(images * pixels * channels, dtype=np.uint16).reshape(images, pixels, channels)
    own = np.zeros((32, channels), np.uint16)  # of 32 images, 19 are missing
    own[:13] = x[32:, pixel]
    zeros, room = np.zeros(channels, np.uint16), np.zeros(512, np.uint16)
    seen, turned = np.ones((2, 16, 32, 2), np.uint16), np.ones((2, 32, 32), np.uint16)
    at = [array.ctypes.data for array in (x, zeros, seen, turned, room)]
    _pack_seen(at[0], at[1], (images, pixels, channels), first, pixel, at[2], seen[0].nbytes)
    _pack_gradients(at[0], at[1], (images, pixels, channels), first, pixel, at[3], turned[0].nbytes, at[4])
    for block in range(2):
        part = own[:, 32 * block : 32 * block + 32]
        assert np.array_equal(seen[block], part.reshape(16, 2, 32).transpose(0, 2, 1))
        assert np.array_equal(turned[block], part.T)


def test_weights_are_packed_as_factors() -> None:
    taps, channels, out = 2, 64, 96
    weights = np.arange(out * taps * channels, dtype=np.uint16).reshape(out, taps, channels)
    made = np.zeros((taps, channels // 32, 16, 32, 2), np.uint16)
    _pack_weights(weights.ctypes.data, taps, channels, out, 2, made.ctypes.data, False)
    for tap, step in itertools.product(range(taps), range(2)):
        matrix = weights[64:, tap, 32 * step : 32 * step + 32].T  # rows are what is summed over
        assert np.array_equal(made[tap, step], matrix.reshape(16, 2, 32).transpose(0, 2, 1))
    made = np.zeros((taps, out // 32, 16, 32, 2), np.uint16)
    _pack_weights(weights.ctypes.data, taps, channels, out, 1, made.ctypes.data, True)
    for tap, step in itertools.product(range(taps), range(3)):
        matrix = weights[32 * step : 32 * step + 32, tap, 32:]
        assert np.array_equal(made[tap, step], matrix.reshape(16, 2, 32).transpose(0, 2, 1))


@pytest.mark.parametrize(
    ("features", "allowed", "usable", "tiles"),
    [
        ("+amx-tile,+amx-bf16,+avx512f,+avx512bf16", True, True, True),
        ("+amx-tile,+amx-bf16,+avx512f,+avx512bf16", False, False, False),  # by the system
        ("+amx-tile,+amx-bf16,+avx512f,+avx512bf16", None, False, False),  # torch cannot say it
        ("+amx-tile,-amx-bf16,+avx512f,+avx512bf16", None, True, False),  # by vectors, without a question
        ("+amx-tile,+avx512bf16", True, False, False),
        ("+avx512f", True, False, False),
        ("", True, False, False),  # compiled for every x86
    ],
)
def test_it_is_usable_where_kernels_are_compiled_for_it_and_the_system_lets_them(
    features: str, allowed: bool | None, usable: bool, tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numba

    monkeypatch.setattr(numba.config, "CPU_FEATURES", features)
    if allowed is None:
        monkeypatch.delattr(torch._C._cpu, "_init_amx")  # a private function of torch's
    else:
        monkeypatch.setattr(torch._C._cpu, "_init_amx", lambda: allowed)
    forget()
    try:
        assert (tile_products.is_usable(), tile_products.has_tiles()) == (usable, tiles)
    finally:
        forget()


def forget() -> None:
    tile_products.is_usable.cache_clear()
    tile_products.has_tiles.cache_clear()


@pytest.mark.parametrize(
    ("strided", "side", "channels", "passes"),
    [
        (False, 4, 64, (True, True, True)),
        (False, 4, 63, (False, False, True)),
        (False, 5, 255, (False, False, True)),
        (False, 7, 256, (True, True, True)),
        (False, 8, 512, (False, False, True)),
        (False, 8, 32, (False, False, True)),
        (False, 9, 63, (False, False, False)),
        (False, 16, 64, (False, False, True)),
        (False, 17, 512, (False, False, False)),
        (True, 12, 32, (False, True, False)),
        (True, 13, 512, (False, False, True)),
        (True, 4, 64, (True, True, True)),
    ],
)
def test_passes_that_were_measured_to_be_faster_by_tiles(
    strided: bool, side: int, channels: int, passes: tuple[bool, bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_products, "has_tiles", lambda: True)
    assert passes_by_tiles(strided, side, channels) == Passes(*passes)


@pytest.mark.parametrize(
    ("strided", "side", "channels", "passes"),
    [
        (False, 3, 32, (True, True, True)),
        (False, 4, 512, (False, False, False)),  # as Winograd did
        (True, 3, 32, (True, True, True)),
        (True, 4, 255, (False, True, True)),
        (True, 4, 256, (True, True, True)),
        (True, 5, 512, (False, True, True)),
        (True, 8, 32, (False, True, True)),
        (True, 9, 512, (False, False, True)),
        (True, 12, 32, (False, False, True)),
        (True, 13, 512, (False, False, False)),
    ],
)
def test_passes_that_were_measured_to_be_faster_by_vectors(
    strided: bool, side: int, channels: int, passes: tuple[bool, bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_products, "has_tiles", lambda: False)
    assert passes_by_tiles(strided, side, channels) == Passes(*passes)


@pytest.mark.parametrize(("tiles", "side"), [(True, 40), (False, 8)])
def test_products_of_1_x_1_convolutions_are_of_every_map_where_it_is_usable(
    tiles: bool, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_products, "is_usable", lambda: tiles)
    assert way_in_bf16((1, 1), False, side, 64, 64) == Way.PRODUCT
    assert way_in_bf16((1, 1), False, side + 1, 64, 64) == (Way.PRODUCT if tiles else Way.TORCHS)
    assert way_in_bf16((1, 1), False, 9, 64, 63) == Way.TORCHS
    assert way_in_bf16((1, 1), True, 9, 8, 8) == Way.PRODUCT
    assert convolution_ways.has_fast_products(64, BF16) == tiles


@pytest.mark.parametrize(
    ("images", "fills"),
    [(0, False), (23, False), (24, True), (32, True), (33, False), (47, False), (48, True), (97, True)],
)
def test_a_batch_that_fills_tiles(images: int, fills: bool) -> None:
    assert tile_products.fills_tiles(torch.zeros(images, 1)) == fills


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Of what would be computed by tiles, wherever the tests run, the passes."""
    made: list[Any] = []

    def convolve(x: Tensor, weight: Tensor, stride: Any, padding: Any, passes: Any) -> Tensor:
        made.append(passes)
        return nn.functional.conv2d(x, weight.to(x.dtype), None, stride, padding)

    monkeypatch.setattr(tile_products, "is_usable", lambda: True)
    monkeypatch.setattr(tile_products, "has_tiles", lambda: True)
    monkeypatch.setattr(tile_products, "convolve", convolve)
    monkeypatch.setattr(tile_rows, "takes", lambda weight, x: False)
    return made


@pytest.mark.parametrize(
    "changed",
    ["nothing", "1 x 1", "few images", "channels", "fp32", "evaluation", "format", "weights", "large map", "no team"],
)
def test_where_a_network_takes_it(changed: str, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = 1 if changed == "1 x 1" else 3
    layer = nn.Conv2d(128, 100 if changed == "channels" else 128, kernel, 2, kernel // 2, bias=False)
    choose_convolutions(layer.to(memory_format=torch.channels_last), CPU)
    assert isinstance(layer, ProductConvolution)
    side = 33 if changed == "large map" else 6
    x = torch.randn(23 if changed == "few images" else 24, 128, side, side)
    x = x if changed == "format" else x.contiguous(memory_format=torch.channels_last)
    if changed == "weights":
        layer = layer.bfloat16()
    if changed == "evaluation":
        layer.eval()
    if changed == "no team":
        monkeypatch.setattr(thread_team, "address", lambda: None)
        torch.set_num_threads(2)
    with torch.autocast("cpu", dtype=BF16, enabled=changed != "fp32"):
        layer(x)
    assert calls == ([(True, True, True)] if changed == "nothing" else [])


def test_kernels_are_compiled_before_where_they_are_used(calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[int] = []
    monkeypatch.setattr(tile_products, "prepare", lambda: prepared.append(1))
    network = nn.Sequential(nn.Conv2d(1, 64, 3, 2, 1, bias=False), nn.Conv2d(64, 64, 3, 1, 1, bias=False))
    choose_convolutions(network, CPU)
    for side, precision, times in ((8, "bf16", 1), (68, "bf16", 0), (8, "fp32", 0)):
        prepared.clear()
        prepare_convolutions(network, torch.zeros(1, 1, side, side), precision)
        assert len(prepared) == times
    assert calls == []


@on_any_processor
@pytest.mark.parametrize("name", ["resnet18", "resnet26"])
def test_a_network_is_as_exact_as_with_onednns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0, zero_init_last=False).to(memory_format=torch.channels_last)
    side = 64 if processor.multiplies_bf16() else 32  # torch's own takes long where it does not
    x = torch.randn(32, 3, side, side).contiguous(memory_format=torch.channels_last)
    exact = gradients(copy.deepcopy(network).double(), x.double(), None)
    made, passes, convolve = {}, list[Any](), tile_products.convolve
    monkeypatch.setattr(tile_products, "convolve", lambda *of: (passes.append(of[4]), convolve(*of))[1])
    for tiles in (False, True):
        ours = copy.deepcopy(network)
        choose_convolutions(ours, CPU)
        choose_norms(ours, CPU)
        with monkeypatch.context() as patch:
            if not tiles:
                patch.setattr(tile_products, "is_usable", lambda: False)
            made[tiles] = gradients(ours, x, BF16)
        assert bool(passes) == tiles
    errors = {
        tiles: torch.cat([(made[tiles][key].double() - exact[key]).flatten() for key in exact]).norm() for tiles in made
    }
    assert errors[True] <= 1.05 * errors[False]


def gradients(network: nn.Module, x: Tensor, dtype: torch.dtype | None) -> dict[str, Tensor]:
    network.train()
    with torch.autocast("cpu", dtype=dtype or BF16, enabled=dtype is not None):
        out = network(x)
    (out.double() * torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)).sum().backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


REFUSED = """
import torch
from llvmlite import binding

host = binding.get_host_cpu_features()
if not (host.get("avx512f") and host.get("avx512bf16")):
    raise SystemExit("no vectors")
host |= {"amx-tile": True, "amx-bf16": True}
binding.get_host_cpu_features = lambda: host
torch._C._cpu._init_amx = lambda: False

from barlowctl.kernels.tiles import sums as tile_sums
from barlowctl.model.cpu import tile_products

assert (tile_products.is_usable(), tile_products.has_tiles(), tile_sums.HAS_TILES) == (True, False, False)
torch.manual_seed(0)
x = torch.randn(32, 32, 3, 3).bfloat16().contiguous(memory_format=torch.channels_last)
weight = torch.randn(32, 32, 3, 3).bfloat16().float()
result = tile_products.convolve(x, weight, (1, 1), (1, 1)).double()
expected = torch.nn.functional.conv2d(x.double(), weight.double(), padding=1)
assert (result - expected).norm() / expected.norm() < 2e-3  # half of a bfloat16's last bit
"""


def test_vectors_are_taken_where_the_system_refuses_tiles() -> None:
    """As in a sandbox on a processor with AMX: the kernels are those for vectors, whatever was compiled for tiles."""
    done = subprocess.run([sys.executable, "-c", REFUSED], capture_output=True, text=True, check=False)
    if done.stderr == "no vectors\n":
        pytest.skip("this processor multiplies no vectors of bfloat16")
    assert done.returncode == 0, done.stderr
