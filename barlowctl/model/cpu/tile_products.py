"""Convolutions of small maps of bfloat16 by a processor's tiles or vectors, pixel by pixel; see `tiles.convolutions`.

oneDNN's are near the machine's peak where maps are large. They take pixels of a row of the map as a product's rows, of
which a map of 4 x 4 has four, and the gradient of a weight is further from it. Here a product's rows are images. What
was measured is in docs/experiments.md.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from barlowctl.kernels import scratchpad, thread_team
from barlowctl.model.cpu.pixel_products import map_of
from barlowctl.own_gradients import once_differentiable

STEP = 32
"""Channels in and out are multiples of it."""
IN_CACHE = 1 << 20
"""Bytes of packed images that stay in the processor's second cache while they are multiplied."""


class _Order(NamedTuple):
    """Where the pairs of each begin, and the pairs, uint32; and the addresses of both."""

    starts: np.ndarray
    pairs: np.ndarray
    starts_at: int
    pairs_at: int


class _Pairs(NamedTuple):
    """Which pixel of a map a pixel of the result sees by which tap, in three orders.

    of_result: of each pixel of the result the pixels that it sees, and the taps. of_map: of each pixel of the map those
    of the result that see it, and the taps. of_taps: of each tap runs: the first pixel of the result, and of the map,
    how many, and the map's step.
    """

    of_result: _Order
    of_map: _Order
    of_taps: _Order


@cache
def is_usable() -> bool:
    """Whether the processor multiplies in bfloat16 by tiles that the system lets this process use, or by vectors."""
    from barlowctl import kernel_cache  # numba takes a while, which evaluation does not need
    from barlowctl.kernels import vector_code

    if vector_code.has_amx():
        return kernel_cache.permits_tiles() and hasattr(getattr(torch._C, "_cpu", None), "_init_amx")
    return vector_code.has_bf16_vectors()


@cache
def has_tiles() -> bool:
    """Whether it is by tiles: they multiply many times as fast as anything else."""
    from barlowctl.kernels import vector_code

    return is_usable() and vector_code.has_amx()


def takes(weight: Tensor) -> bool:
    """Whether convolutions with a weight can be computed so here."""
    plain = type(weight.detach()) is Tensor and weight.dtype == torch.float32
    channels = weight.shape[0] % STEP == weight.shape[1] % STEP == 0
    return plain and channels and thread_team.serves() and is_usable()


def fills_tiles(x: Tensor) -> bool:
    """Whether a batch has so many images that at most a fourth of what is multiplied is padding."""
    return type(x) is Tensor and 0 < 3 * STEP * -(-len(x) // STEP) <= 4 * len(x)


def prepare() -> None:
    """Compile the kernels: the first call ever takes seconds."""
    x = torch.zeros(1, STEP, 1, 1, dtype=torch.bfloat16, requires_grad=True)
    convolve(x, torch.zeros(STEP, STEP, 1, 1, dtype=torch.float32, requires_grad=True), (1, 1), (0, 0)).sum().backward()


def convolve(
    x: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    passes: tuple[bool, bool, bool] = (True, True, True),
) -> Tensor:
    """The convolution of x, bf16 `(n, c, h, w)` in channels_last, with weight `(d, c, k, l)`, without a bias.

    Args:
        weight: float32; it is rounded to bf16. c and d are multiples of 32.
        passes: whether the result, the gradient of x and that of the weight are computed so; else they are oneDNN's.

    Returns: `(n, d, h', w')` in channels_last, bf16. The gradient of the weight is float32.
    """
    assert is_usable()  # which asks the system; without, the processor refuses the instruction, and the process ends
    out: Tensor = _TileProducts.apply(x, weight, stride, padding, passes)
    return out


class _TileProducts(torch.autograd.Function):
    """See `convolve`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
        passes: tuple[bool, bool, bool],
    ) -> Tensor:
        rounded = weight.to(torch.bfloat16)
        ctx.save_for_backward(x, rounded)
        ctx.stride, ctx.padding, ctx.passes = stride, padding, passes
        if not passes[0]:
            with torch.autocast("cpu", enabled=False):
                return nn.functional.conv2d(x, rounded, None, stride, padding)
        size = map_of(x.shape[2:], weight.shape[2:], stride, padding)
        pairs = pairs_of(tuple(x.shape[2:]), tuple(weight.shape[2:]), size, stride, padding)
        return _convolve(x, rounded, size, pairs.of_result, turned=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        size, needed = tuple(x.shape[2:]), ctx.needs_input_grad[:2]
        pairs = pairs_of(size, tuple(weight.shape[2:]), tuple(grad.shape[2:]), ctx.stride, ctx.padding)
        of_x = of_weight = None
        theirs = [needs and not ours for needs, ours in zip(needed, ctx.passes[1:], strict=True)]
        if any(theirs):
            of_x, of_weight, _ = torch.ops.aten.convolution_backward(
                grad, x, weight, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1, (*theirs, False)
            )
        if needed[0] and not theirs[0]:
            of_x = _convolve(grad, weight, size, pairs.of_map, turned=True)
        if needed[1] and not theirs[1]:
            of_weight = _gradient_of_weight(grad, x, weight, pairs.of_taps)
        return of_x, of_weight, None, None, None


def _convolve(x: Tensor, weight: Tensor, size: tuple[int, ...], pairs: _Order, *, turned: bool) -> Tensor:
    """y of x. turned: x is the gradient of a result, y that of a map."""
    from barlowctl.kernels.tiles import convolutions as kernels  # numba takes a second, which evaluation does not need
    from barlowctl.kernels.tiles.memory import LINE
    from barlowctl.kernels.tiles.packing import FACTOR

    n, channels = x.shape[:2]
    out = weight.shape[1 if turned else 0]
    lines = weight.permute(0, 2, 3, 1).contiguous()
    (results, terms), taps, pixels = weight.shape[:2], math.prod(weight.shape[2:]), math.prod(x.shape[2:])
    y = torch.empty((n, out, *size), dtype=x.dtype, memory_format=torch.channels_last)
    part = pixels * STEP * (2 * channels + LINE)
    parts = -(-n // STEP)
    group = max(1, min(parts, IN_CACHE // part, -(-parts // thread_team.count())))
    groups = -(-parts // group)
    across = max(1, min(out // STEP, -(-thread_team.count() // groups)))
    room = scratchpad.whole_lines(2 * FACTOR + group * part)
    factors, rooms = scratchpad.take(2 * lines.numel(), thread_team.count() * room)
    numbers = {"taps": taps, "channels": terms, "out": results, "turned": int(turned), "y": factors}
    _call(kernels.weight_pieces, {"weights": lines}, numbers)
    numbers = {"images": n, "pixels": pixels, "channels": channels, "result_pixels": size[0] * size[1], "out": out}
    numbers |= {"taps": taps, "group": group, "across": across, "weights": factors}
    numbers |= {"zeros": scratchpad.zeros(2 * channels), "room": rooms, "room_size": room}
    _call(kernels.convolve_pieces, {"x": x, "y": y}, numbers, pairs)
    return y


def _gradient_of_weight(grad: Tensor, x: Tensor, weight: Tensor, runs: _Order) -> Tensor:
    from barlowctl.kernels.tiles import convolutions as kernels
    from barlowctl.kernels.tiles.packing import FACTOR

    (n, c), d, kernel = x.shape[:2], grad.shape[1], weight.shape[2:]
    pixels, results, images = math.prod(x.shape[2:]), math.prod(grad.shape[2:]), -(-len(x) // STEP) * STEP
    sizes = 2 * images * pixels * c, 2 * images * results * d, thread_team.count() * FACTOR
    packed, of_gradient, rooms = scratchpad.take(*sizes)
    of_weight = torch.empty((d, c, *kernel), dtype=torch.float32, memory_format=torch.channels_last)
    tensors = {"x": x, "gradient": grad, "y": of_weight}
    numbers = {"images": n, "pixels": pixels, "channels": c, "result_pixels": results, "out": d}
    numbers |= {"taps": kernel[0] * kernel[1], "group": max(1, IN_CACHE // ((pixels + results) * FACTOR))}
    numbers |= {"packed": packed, "packed_gradient": of_gradient, "room": rooms, "room_size": FACTOR}
    numbers["zeros"] = scratchpad.zeros(2 * max(c, d))
    _call(kernels.pack_pieces, tensors, numbers)
    _call(kernels.correlate_pieces, tensors, numbers, runs)
    return of_weight


@lru_cache(maxsize=256)
def pairs_of(
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    result: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> _Pairs:
    """Of a convolution of a map of such a size, and its result."""
    along = [_along(*sides) for sides in zip(size, kernel, result, stride, padding, strict=True)]
    (rows, row_taps, row_results), (columns, column_taps, column_results) = along

    def joined(one: np.ndarray, other: np.ndarray, width: int) -> np.ndarray:
        return (one[:, None] * width + other[None]).ravel()

    seen, taps = joined(rows, columns, size[1]), joined(row_taps, column_taps, kernel[1])
    results = joined(row_results, column_results, result[1])
    by_result = _sorted(results, result[0] * result[1], taps, seen, taps)
    by_map = _sorted(seen, size[0] * size[1], taps, results, taps)
    return _Pairs(by_result, by_map, _runs(taps, kernel[0] * kernel[1], results, seen, stride[1]))


def _along(size: int, kernel: int, result: int, stride: int, padding: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Along one side: pixels of the map, taps and pixels of the result that meet."""
    results, taps = (part.ravel() for part in np.meshgrid(np.arange(result), np.arange(kernel), indexing="ij"))
    seen = stride * results - padding + taps
    inside = (seen >= 0) & (seen < size)
    return seen[inside], taps[inside], results[inside]


def _sorted(key: np.ndarray, count: int, then: np.ndarray, *values: np.ndarray) -> _Order:
    order = np.lexsort((then, key))
    starts = np.searchsorted(key[order], np.arange(count + 1))
    return _order(starts, np.stack([value[order] for value in values], 1))


def _runs(taps: np.ndarray, count: int, results: np.ndarray, seen: np.ndarray, step: int) -> _Order:
    order = np.lexsort((results, taps))
    taps, results, seen = taps[order], results[order], seen[order]
    goes_on = (np.diff(taps) == 0) & (np.diff(results) == 1) & (np.diff(seen) == step)
    begins = np.flatnonzero(np.concatenate([[True], ~goes_on]))
    lengths = np.diff(np.append(begins, len(taps)))
    runs = np.stack([results[begins], seen[begins], lengths, np.full_like(lengths, step)], 1)
    starts = np.searchsorted(taps[begins], np.arange(count + 1))
    return _order(starts, runs)


def _order(starts: np.ndarray, pairs: np.ndarray) -> _Order:
    starts, pairs = starts.astype(np.uint32), pairs.astype(np.uint32)
    return _Order(starts, pairs, starts.ctypes.data, pairs.ctypes.data)


def _call(pieces: Any, tensors: dict[str, Tensor], numbers: dict[str, int], runs: _Order | None = None) -> None:
    """Have all pieces of some work done by torch's threads."""
    from barlowctl.kernels.thread_tiles import call
    from barlowctl.kernels.tiles.convolutions import task_of

    fields = {name: tensor.data_ptr() for name, tensor in tensors.items()} | numbers
    fields["configuration"] = configuration_at()
    if runs is not None:
        fields |= {"starts": runs.starts_at, "runs": runs.pairs_at}
    call(thread_team.team(), pieces.address, task_of(**fields))


@cache
def configuration_at() -> int:
    """The address of `configuration`."""
    return int(configuration().ctypes.data)


@cache
def configuration() -> np.ndarray:
    """What the tiles are like, for `tiles.sums.configure`."""
    from barlowctl.kernels.tiles import amx as amx_tiles

    return amx_tiles.configuration()
