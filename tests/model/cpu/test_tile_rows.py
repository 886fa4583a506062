"""Products of rows by tiles or vectors of bf16: that they are the convolution, how exact, and where they are taken.

Results are tested on every processor: where it has no instruction for such products, they are made of others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from numba import njit
from torch import Tensor, nn

from barlowctl.kernels import thread_team
from barlowctl.kernels.tiles import row_packing as tile_row_packing
from barlowctl.model.cpu import tile_products, tile_row_plans, tile_rows
from barlowctl.model.cpu.pixel_products import map_of
from barlowctl.model.cpu.product_convolution import ProductConvolution, choose_convolutions, prepare_convolutions
from barlowctl.model.cpu.product_linear import ProductLinear, choose_linears, prepare_linears
from barlowctl.own_gradients import made_here
from tests.model.cpu.convolution_shapes import Shape, drawn

CPU, BF16 = torch.device("cpu"), torch.bfloat16
on_any_processor = pytest.mark.usefixtures("multiplies_bf16")
pytestmark = pytest.mark.usefixtures("one_thread")


def pointwise(images: int, channels: int, out: int, size: tuple[int, int], stride: tuple[int, int] = (1, 1)) -> Shape:
    return Shape(images, channels, out, size, (1, 1), stride, (0, 0))


POINTWISE = [
    pointwise(32, 32, 32, (1, 1)),
    pointwise(5, 64, 96, (3, 7)),  # the last 32 rows are not whole
    pointwise(1, 33, 65, (1, 1)),  # more columns of zeros than of numbers
    pointwise(7, 8, 24, (4, 5)),
    pointwise(9, 3, 5, (6, 6)),
    pointwise(40, 256, 64, (6, 6)),
]
FIRST = [
    Shape(3, 1, 32, (20, 20), (5, 5), (2, 2), (2, 2)),
    Shape(2, 3, 20, (21, 18), (7, 7), (2, 2), (3, 3)),
    Shape(4, 2, 33, (6, 9), (5, 6), (3, 2), (0, 4)),
]


def results(shape: Shape, x: Tensor, weight: Tensor, grad: Tensor) -> list[Tensor]:
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    out = tile_rows.convolve(x, weight, shape.stride, shape.padding)
    return [out.detach(), *torch.autograd.grad(out, (x, weight), grad)]


def forget_plans() -> None:
    tile_row_plans.of_product.cache_clear()
    tile_row_plans.of_gradient.cache_clear()


def in_float64(shape: Shape, x: Tensor, weight: Tensor, grad: Tensor) -> list[Tensor]:
    x, weight = x.double().requires_grad_(), weight.double().requires_grad_()
    out = nn.functional.conv2d(x, weight, None, shape.stride, shape.padding)
    return [out.detach(), *torch.autograd.grad(out, (x, weight), grad.double())]


def assert_rounded_once(made: Tensor, true: Tensor, spread: float = 2e-6) -> None:
    """No further from the truth than the nearest number of bfloat16 is, and a sum in float32."""
    error, rounding = (made.double() - true).abs(), (true.float().to(BF16).double() - true).abs()
    assert bool((error <= rounding + spread * true.abs().max()).all())


@on_any_processor
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "onednn"])
@pytest.mark.parametrize("shape", POINTWISE, ids=str)
def test_it_is_the_convolution(shape: Shape, ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums are float32's, and what is written in bfloat16 is rounded once; the gradient of the weight is not."""
    monkeypatch.setattr(tile_rows, "multiplies", lambda rows, weight: ours)
    case = drawn(shape)
    given, exact = results(shape, *case), in_float64(shape, *case)
    assert [part.dtype for part in given] == [BF16, BF16, torch.float32]
    for made, true in zip(given, exact, strict=True):
        assert made.shape == true.shape
        assert made.is_contiguous(memory_format=torch.channels_last)
    for made, true in zip(given[:2], exact[:2], strict=True):
        assert_rounded_once(made, true)
    assert (given[2].double() - exact[2]).norm() <= 1e-6 * exact[2].norm()


@on_any_processor
@pytest.mark.parametrize("shape", FIRST, ids=str)
def test_the_gradient_of_a_first_layers_weight_is_that_of_the_convolution(shape: Shape) -> None:
    case = drawn(shape)
    ours, exact = results(shape, *case), in_float64(shape, *case)
    assert (ours[2].double() - exact[2]).norm() <= 1e-6 * exact[2].norm()
    x, weight = case[0].requires_grad_(), case[1].to(BF16)
    theirs = nn.functional.conv2d(x, weight, None, shape.stride, shape.padding)
    assert torch.equal(ours[0], theirs.detach())
    assert torch.equal(ours[1], torch.autograd.grad(theirs, x, case[2])[0])


@on_any_processor
@pytest.mark.parametrize("shape", [*POINTWISE, FIRST[0], pointwise(3, 32, 96, (31, 33))], ids=str)
def test_it_is_the_same_to_the_bit_however_it_is_divided(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among threads, and by what is made at a time; and wherever the map begins in memory."""
    case = drawn(shape)
    expected = results(shape, *case)
    for threads in (2, 5):
        if thread_team.address() is not None:
            torch.set_num_threads(threads)
            assert all(map(torch.equal, results(shape, *case), expected))
    torch.set_num_threads(1)
    with monkeypatch.context() as patch:
        small = tile_row_plans.Chunk(fewest=32, most=32, factors=1, strip=1)
        for name, value in (("BY_TILES", small), ("BY_VECTORS", small), ("MOST_ROWS", 32), ("LAID", 1)):
            patch.setattr(tile_row_plans, name, value)
        forget_plans()
        assert all(map(torch.equal, results(shape, *case), expected))
    forget_plans()
    x = torch.cat([case[0][:1], case[0]])[1:]
    assert x.storage_offset() > 0
    assert all(map(torch.equal, results(shape, x, *case[1:]), expected))


@on_any_processor
@pytest.mark.parametrize("shape", [POINTWISE[1], POINTWISE[2], POINTWISE[3], FIRST[2]], ids=str)
def test_what_lay_in_memory_before_does_not_count(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    case, empty = drawn(shape), torch.empty
    expected = results(shape, *case)

    def left_over(*sizes: Any, **options: Any) -> Tensor:
        out = empty(*sizes, **options)
        return out.fill_(255 if out.dtype == torch.uint8 else float("nan"))  # bits that are no number in bf16 either

    monkeypatch.setattr(torch, "empty", left_over)
    assert all(map(torch.equal, results(shape, *case), expected))


@on_any_processor
def test_a_gradient_of_many_rows_is_summed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """That many threads find work; float32 sums of a piece, then of the pieces."""
    shape = pointwise(5, 32, 40, (30, 30))
    case = drawn(shape)
    exact = in_float64(shape, *case)[2]
    whole = results(shape, *case)[2]
    monkeypatch.setattr(tile_row_plans, "MOST_PIECES", 1)
    forget_plans()
    alone = results(shape, *case)[2]
    forget_plans()
    assert not torch.equal(whole, alone)
    for made in (whole, alone):
        assert (made.double() - exact).norm() <= 1e-6 * exact.norm()


@on_any_processor
@pytest.mark.parametrize("channels", [32, 8])
def test_what_is_no_number_goes_where_it_is_seen_and_nowhere_else(channels: int) -> None:
    shape = pointwise(3, channels, 40, (5, 5))
    x, weight, grad = drawn(shape)
    x[1, 7, 2, 3] = float("nan")
    x[2, 3, 4, 4] = float("inf")
    out, of_x, of_weight = results(shape, x, weight, grad)
    seen = torch.zeros(3, 5, 5, dtype=torch.bool)
    seen[1, 2, 3] = True
    assert torch.equal(out.isnan().all(1), seen)
    assert torch.equal((~out.isfinite()).any(1).nonzero(), torch.tensor([[1, 2, 3], [2, 4, 4]]))
    assert bool(of_x.isfinite().all())
    assert torch.equal((~of_weight.isfinite()).any(0).flatten().nonzero().flatten(), torch.tensor([3, 7]))


@on_any_processor
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "onednn"])
def test_rows_are_multiplied_as_a_linear_does(ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_rows, "multiplies", lambda rows, weight: ours)
    x, weight, grad = (part[:, :, 0, 0] for part in drawn(pointwise(70, 96, 50, (1, 1))))
    x.requires_grad_()
    weight.requires_grad_()
    out = tile_rows.multiply(x, weight)
    assert out.grad_fn is not None
    assert out.grad_fn.name() == "ViewBackward0"  # a picked element's gradient would be a map of zeros first
    out.backward(grad)
    assert out.shape == (70, 50)
    assert x.grad is not None
    assert weight.grad is not None
    assert_rounded_once(out.detach(), x.detach().double() @ weight.detach().double().T)
    assert_rounded_once(x.grad, grad.double() @ weight.detach().double())
    true = grad.double().T @ x.detach().double()
    assert (weight.grad.double() - true).norm() <= 1e-6 * true.norm()


@on_any_processor
@pytest.mark.parametrize("by", ["ours", "onednn", "addmm"])
@pytest.mark.parametrize(("shape", "out"), [((3, 7, 64), 96), ((64, 40), 32), ((5, 33), 50), ((2, 600, 32), 64)])
def test_a_linear_with_a_bias_is_torchs(
    shape: tuple[int, ...], out: int, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against float64, of rows in any number of sides; torch's addmm alone rounds the bias to bf16."""
    if by == "onednn" and not tile_rows._takes_biases():
        pytest.skip("oneDNN does not compute in bf16 on this processor")
    monkeypatch.setattr(tile_rows, "multiplies", lambda rows, weight: by == "ours")
    monkeypatch.setattr(tile_rows, "_takes_biases", lambda: by == "onednn")
    layer = nn.Linear(shape[-1], out)
    choose_linears(layer, CPU)
    torch.manual_seed(out)
    x, grad = torch.randn(shape).to(BF16).requires_grad_(), torch.randn(*shape[:-1], out).to(BF16)
    with torch.autocast("cpu", dtype=BF16):
        y = layer(x)
    y.backward(grad)
    weight, bias = (part.detach() for part in (layer.weight, layer.bias))
    rows, of_rows = x.detach().double().flatten(0, -2), grad.double().flatten(0, -2)
    assert (y.shape, y.dtype) == (grad.shape, BF16)
    true = rows @ weight.to(BF16).double().T + (bias.to(BF16) if by == "addmm" else bias).double()
    assert_rounded_once(y.detach().flatten(0, -2), true)
    assert x.grad is not None
    assert_rounded_once(x.grad.flatten(0, -2), of_rows @ weight.to(BF16).double())
    for made, exact in ((layer.weight.grad, of_rows.T @ rows), (layer.bias.grad, of_rows.sum(0))):
        assert made is not None
        assert made.dtype == torch.float32
        assert (made.double() - exact).norm() <= 1e-6 * exact.norm()


@on_any_processor
def test_a_frozen_linear_has_the_gradient_of_its_rows_alone() -> None:
    layer = nn.Linear(32, 32).requires_grad_(False)
    choose_linears(layer, CPU)
    x = torch.ones(40, 32, dtype=BF16, requires_grad=True)
    with torch.autocast("cpu", dtype=BF16):
        layer(x).sum().backward()
    assert x.grad is not None
    assert_rounded_once(x.grad[0], layer.weight.to(BF16).double().sum(0))
    assert (layer.weight.grad, layer.bias.grad) == (None, None)


# ---- the gradient of a product, added to another ----------------------------------------------------------


@on_any_processor
@pytest.mark.parametrize(("size", "stride"), [((7, 4), (2, 2)), ((6, 6), (3, 2)), ((5, 5), (1, 1))], ids=str)
def test_the_gradient_of_a_branch_is_added_where_its_pixels_lie(size: tuple[int, int], stride: tuple[int, int]) -> None:
    """In the last case pixels lie as they do in the gradient, whose last rows are not 32."""
    shape = pointwise(6, 64, 40, size, stride=stride)
    x, weight, grad = drawn(shape)
    of_whole = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(BF16)
    of_whole = of_whole.contiguous(memory_format=torch.channels_last)
    exact = in_float64(shape, x, weight, grad)
    x.requires_grad_()
    weight.requires_grad_()
    whole, out = tile_rows.branches(x, weight, stride)
    assert torch.equal(whole, x)
    assert_rounded_once(out.detach(), exact[0])
    torch.autograd.backward([whole, out], [of_whole.clone(memory_format=torch.preserve_format), grad])
    assert x.grad is not None
    assert weight.grad is not None
    assert_rounded_once(x.grad, exact[1] + of_whole.double())
    assert (weight.grad.double() - exact[2]).norm() <= 1e-6 * exact[2].norm()


@on_any_processor
def test_either_gradient_of_a_branch_may_be_missing() -> None:
    shape = pointwise(4, 32, 48, (6, 6), stride=(2, 2))
    x, weight, grad = drawn(shape)
    expected = in_float64(shape, x, weight, grad)
    x.requires_grad_()
    weight.requires_grad_()
    tile_rows.branches(x, weight, shape.stride)[1].backward(grad)
    assert x.grad is not None
    assert_rounded_once(x.grad, expected[1])
    x.grad = weight.grad = None
    tile_rows.branches(x, weight, shape.stride)[0].sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))  # type: ignore[arg-type]
    assert weight.grad is None


class _Given(torch.autograd.Function):
    """Passes on a gradient of its own instead."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, given: Tensor) -> Tensor:
        ctx.given = given
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.given, None


@on_any_processor
@pytest.mark.parametrize("own", [True, False])
def test_a_shortcuts_gradient_is_written_over_only_if_nobody_else_has_it(own: bool) -> None:
    shape = pointwise(6, 64, 16, (5, 4))
    x, weight, grad = drawn(shape)
    given = torch.ones_like(x)
    if own:
        made_here(given)
    x.requires_grad_()
    out, shortcut = tile_rows.beside(x, weight.requires_grad_())
    torch.autograd.backward([out, _Given.apply(shortcut, given)], [grad, torch.zeros_like(x)])
    expected = in_float64(shape, x.detach(), weight.detach(), grad)[1] + 1.0
    assert x.grad is not None
    assert_rounded_once(x.grad, expected)
    assert torch.equal(given, x.grad if own else torch.ones_like(x))


# ---- what is laid out -------------------------------------------------------------------------------------


@njit
def _lay(task, first, count, out):
    tile_row_packing.clear(out, 64 * task[tile_row_packing.PADDED])
    tile_row_packing.seen_at(task, first, count, out)


@pytest.mark.parametrize(
    "shape", [*FIRST, pointwise(3, 8, 5, (6, 7), stride=(2, 3)), pointwise(7, 12, 4, (3, 2))], ids=str
)
def test_what_pixels_see_is_laid_out_row_by_row(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_products, "configuration_at", lambda: 0)
    x = drawn(shape)[0]
    size = map_of(shape.size, shape.kernel, shape.stride, shape.padding)
    task = tile_row_plans.task_of(x.shape, (shape.out, *shape.kernel), size, shape.stride, shape.padding)
    task[tile_row_packing.X] = x.data_ptr()
    around = nn.functional.pad(x.float(), (*[shape.padding[1]] * 2, *[shape.padding[0]] * 2))
    patches = around.unfold(2, shape.kernel[0], shape.stride[0]).unfold(3, shape.kernel[1], shape.stride[1])
    rows = patches.permute(0, 2, 3, 4, 5, 1).reshape(shape.images * size[0] * size[1], -1).to(BF16)
    padded = int(task[tile_row_packing.PADDED])
    assert padded == -(-rows.shape[1] // 32) * 32
    for first in range(0, len(rows), 32):
        count = min(32, len(rows) - first)
        out = torch.full((32 * padded + 64,), 7.0, dtype=BF16)
        _lay(task, first, count, out.data_ptr())
        laid = out[: 32 * padded].view(32, padded)
        assert torch.equal(laid[:count, : rows.shape[1]], rows[first : first + count])
        assert not laid[:, rows.shape[1] :].any()
        assert not laid[count:].any()
        assert bool((out[32 * padded :] == 7.0).all())


@njit
def _pack(task, laid, out):
    tile_row_packing.pack_all_weights(task, laid, out)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("out", "channels"), [(64, 32), (33, 70), (8, 5)])
def test_weights_are_rounded_and_packed_as_factors(
    out: int, channels: int, turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 16 rows of pairs, 32 columns; all that is no weight is 0."""
    monkeypatch.setattr(tile_products, "configuration_at", lambda: 0)
    weight = torch.randn(out, channels, generator=torch.Generator().manual_seed(0))
    matrix = (weight if turned else weight.T).to(BF16)  # (summed, results)
    summed, wide = matrix.shape
    task = tile_row_plans.task_of((1, summed, 1, 1), (wide, 1, 1), (1, 1), (1, 1), (0, 0), turned)
    task[tile_row_packing.WEIGHTS] = weight.data_ptr()
    steps, blocks = -(-summed // 32), -(-wide // 32)
    room, made = torch.zeros(steps * blocks * 1024 + 256), torch.zeros(blocks, steps, 16, 32, 2, dtype=BF16)
    _pack(task, room.data_ptr(), made.data_ptr())
    whole = torch.zeros(32 * steps, 32 * blocks, dtype=BF16)
    whole[:summed, :wide] = matrix
    expected = whole.view(steps, 16, 2, blocks, 32).permute(3, 0, 1, 4, 2)
    assert torch.equal(made, expected)


# ---- where it is taken ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tiles", [True, False])
@pytest.mark.parametrize(
    ("rows", "weight", "few"),
    [(256, (1024, 256), True), (6103, (256, 128), True), (6104, (256, 128), False), (1, (1025, 512), False)],
)
def test_few_products_are_computed_here(
    tiles: bool, rows: int, weight: tuple[int, int], few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On any number of threads, of which each would have few rows of many."""
    monkeypatch.setattr(tile_products, "has_tiles", lambda: tiles)
    monkeypatch.setattr(thread_team, "count", lambda: 16)
    assert tile_rows.multiplies(rows, torch.empty(weight)) == few


@pytest.mark.parametrize(
    ("rows", "threads", "weight", "ours"),
    [
        (36864, 1, (256, 64), True),
        (36864, 72, (256, 64), True),
        (36864, 73, (256, 64), False),
        (576, 1, (2048, 1024), True),
        (576, 2, (2048, 1024), False),
        (511, 1, (2048, 1024), False),
        (10**6, 1, (2048, 1025), False),
    ],
)
def test_many_products_are_computed_here_by_vectors(
    rows: int, threads: int, weight: tuple[int, int], ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where each thread has rows enough for the weights that it packs."""
    monkeypatch.setattr(thread_team, "count", lambda: threads)
    for tiles in (False, True):
        monkeypatch.setattr(tile_products, "has_tiles", lambda tiles=tiles: tiles)
        assert tile_rows.multiplies(rows, torch.empty(weight)) == (ours and not tiles)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Which of its functions would be called, wherever the tests run."""
    made: list[str] = []

    def convolve(x: Tensor, weight: Tensor, stride: Any, padding: Any) -> Tensor:
        made.append("convolve")
        return nn.functional.conv2d(x, weight.to(x.dtype), None, stride, padding)

    def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        made.append("multiply")
        return nn.functional.linear(x, weight.to(x.dtype))

    monkeypatch.setattr(tile_products, "is_usable", lambda: True)
    monkeypatch.setattr(tile_products, "has_tiles", lambda: True)
    monkeypatch.setattr(tile_products, "convolve", lambda x, weight, *of: convolve(x, weight, *of[:2]))
    monkeypatch.setattr(tile_rows, "convolve", convolve)
    monkeypatch.setattr(tile_rows, "multiply", multiply)
    monkeypatch.setattr(tile_rows, "prepare", lambda: made.append("prepare"))
    monkeypatch.setattr(tile_products, "prepare", lambda: None)
    return made


@pytest.mark.parametrize(
    "changed", ["nothing", "fp32", "evaluation", "format", "weights", "no team", "strided", "no tiles"]
)
def test_where_a_convolution_takes_it(changed: str, calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Conv2d(24, 40, 1, 2 if changed == "strided" else 1, bias=False).to(memory_format=torch.channels_last)
    choose_convolutions(layer, CPU)
    assert isinstance(layer, ProductConvolution)
    x = torch.randn(2, 24, 9, 9)
    x = x if changed == "format" else x.contiguous(memory_format=torch.channels_last)
    if changed == "weights":
        layer = layer.bfloat16()
    if changed == "evaluation":
        layer.eval()
    if changed == "no team":
        monkeypatch.setattr(thread_team, "address", lambda: None)
        torch.set_num_threads(2)
    if changed == "no tiles":
        monkeypatch.setattr(tile_products, "is_usable", lambda: False)
    with torch.autocast("cpu", dtype=BF16, enabled=changed != "fp32"):
        layer(x)
    assert calls == (["convolve"] if changed == "nothing" else [])


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "taken"),
    [(1, 5, 2, True), (3, 7, 2, True), (4, 7, 2, False), (3, 7, 1, False), (3, 3, 2, False)],
)
@pytest.mark.parametrize("tiles", [True, False])
def test_which_first_layers_take_it(
    channels: int,
    kernel: int,
    stride: int,
    taken: bool,
    tiles: bool,
    calls: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tile_products, "has_tiles", lambda: tiles)
    layer = nn.Conv2d(channels, 24, kernel, stride, kernel // 2, bias=False).to(memory_format=torch.channels_last)
    choose_convolutions(layer, CPU)
    x = torch.randn(2, channels, 20, 20).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=BF16):
        layer(x)
    assert calls == (["convolve"] if taken and tiles else [])


@pytest.mark.parametrize(
    "changed", ["nothing", "three sides", "fp32", "evaluation", "one side", "columns", "weights", "not usable"]
)
def test_where_a_linear_takes_it(changed: str, calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bias, too."""
    network = nn.Sequential(nn.Linear(12, 7, bias=False), nn.Linear(7, 5))
    names = list(network.state_dict())
    choose_linears(network, CPU)
    assert [type(layer) for layer in network] == [ProductLinear, ProductLinear]
    assert list(network.state_dict()) == names
    shape = {"three sides": (2, 3, 12), "one side": (12,)}.get(changed, (3, 12))
    x = torch.randn(12, 3).t() if changed == "columns" else torch.randn(shape)
    if changed == "weights":
        network = network.bfloat16()
        x = x.bfloat16()
    if changed == "evaluation":
        network.eval()
    if changed == "not usable":
        monkeypatch.setattr(tile_products, "is_usable", lambda: False)
    with torch.autocast("cpu", dtype=BF16, enabled=changed != "fp32"):
        network(x)
    times = {"nothing": 2, "three sides": 2, "columns": 1}.get(changed, 0)
    assert calls == ["multiply"] * times


def test_linears_of_other_devices_are_left_alone() -> None:
    layer = nn.Linear(2, 2, bias=False)
    choose_linears(layer, torch.device("cuda"))
    assert type(layer) is nn.Linear


def test_kernels_are_compiled_before_where_they_are_used(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(1, 64, 3, 1, 1, bias=False), nn.Conv2d(64, 64, 1, bias=False), nn.Flatten())
    head = nn.Linear(4, 4, bias=False)
    choose_convolutions(network, CPU)
    choose_linears(head, CPU)
    image = torch.zeros(1, 1, 40, 40)
    prepare_convolutions(network, image, "bf16")
    prepare_linears(head, "bf16")
    assert calls == ["prepare", "prepare"]
    for precision in ("fp32", "fp16"):
        prepare_convolutions(network, image, precision)
        prepare_linears(head, precision)
    prepare_convolutions(network[:1], image, "bf16")
    monkeypatch.setattr(tile_products, "is_usable", lambda: False)
    prepare_convolutions(network, image, "bf16")
    prepare_linears(head, "bf16")
    assert calls == ["prepare", "prepare"]


@on_any_processor
def test_preparing_runs_every_kernel() -> None:
    tile_rows.prepare()
