"""The passes of Winograd's convolutions over tensors in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from barlowctl.kernels import scratchpad, thread_team
from barlowctl.kernels.winograd import threads as winograd_threads
from barlowctl.kernels.winograd.loops import PAD, STEP
from barlowctl.kernels.winograd.vector_code import BLOCK

CONVOLVED = 24
"""Tiles whose transformed numbers stay in the processor's cache while they are multiplied."""
CORRELATED = 48
"""The same for the gradient of the weights."""
MULTIPLIED = 96
"""Tiles that are multiplied at a time where all are transformed before."""
TRANSFORMED = 8
"""Tiles that are transformed at a time where all are before they are multiplied."""
MANY_CHANNELS = 256
"""Channels of a result from which on transformed weights are so large that they should not lie in memory."""
FLOAT = 4
"""Bytes of a number."""
SHARES = 4
SUMS = SHARES * 64 * 64
"""Shares of a batch whose sums of that gradient are apart, of the fewest channels; and the sums of all shares."""


def convolve(x: Tensor, weight: Tensor, m: int, *, turned: bool) -> Tensor:
    """The convolution of x, `(n, c, h, w)` in channels_last, with float32 weights `(d, c, 3, 3)`: `(n, d, h, w)`.

    x: bf16 or float32, as the result is.
    turned: with those that the gradient of the input is the convolution with; x is then `(n, d, h, w)`.
    """
    lines = weight.detach().permute(0, 2, 3, 1).contiguous()  # copied where it is not channels_last
    (n, channels, height, width), out = x.shape, weight.shape[1 if turned else 0]
    tiles, parts, shape = _tiles(x, m), (m + 2) ** 2, (n, height, width, channels, out)
    y = torch.empty((n, out, height, width), dtype=x.dtype, memory_format=torch.channels_last)
    tensors = {"x": x, "y": y}
    numbers = {"m": m, "tiles": tiles, "turned": int(turned), "itemsize": x.itemsize}
    numbers["zeros"] = scratchpad.zeros(FLOAT * channels)
    if tiles <= out and out >= MANY_CHANNELS:  # each weight is transformed for all tiles, and thrown away
        group = min(tiles, MULTIPLIED)
        own = parts * (channels * BLOCK + PAD // FLOAT), BLOCK + group * parts * BLOCK
        numbers["inputs"], *rooms = _rooms(parts * (tiles * channels + PAD // FLOAT), own=own)
        tensors["weights"] = lines
        _call("input_pieces", shape, tensors, numbers | {"group": TRANSFORMED})
        _call("block_pieces", shape, tensors, numbers | {"group": group}, own, rooms)
        return y
    rounds = -(-tiles // (CONVOLVED * thread_team.count()))
    group = -(-tiles // (rounds * thread_team.count()))  # as many groups for each thread
    own = parts * (group * channels + PAD // FLOAT), BLOCK + group * parts * BLOCK
    matrices, *rooms = _rooms(parts * (channels * out + -(-out // BLOCK) * PAD // FLOAT), own=own)
    _call("transform_pieces", shape, {"x": lines}, numbers | {"y": matrices})
    _call("convolve_pieces", shape, tensors, numbers | {"weights": matrices, "group": group}, own, rooms)
    return y


def gradient_of_weight(x: Tensor, grad: Tensor, m: int) -> Tensor:
    """The gradient of the weight `(d, c, 3, 3)`, of x and that of the result, both in channels_last."""
    (n, c, height, width), d = x.shape, grad.shape[1]
    tiles, parts, shape = _tiles(x, m), (m + 2) ** 2, (n, height, width, c, d)
    of_weight = torch.empty((d, c, 3, 3), dtype=torch.float32, memory_format=torch.channels_last)
    tensors = {"x": x, "gradient": grad}
    numbers = {"m": m, "tiles": tiles, "itemsize": x.itemsize, "zeros": scratchpad.zeros(FLOAT * max(c, d))}
    apart = 2 * tiles > min(c, d)  # else what is transformed is less than the sums
    group = min(tiles, CORRELATED) if apart else tiles
    own = parts * (group * c + -(-c // BLOCK) * PAD // FLOAT), parts * (group * d + d // STEP * PAD // FLOAT)
    if not apart:
        numbers["first_room"], numbers["second_room"] = _rooms(*own)
        tensors["y"] = of_weight
        _call("spread_pieces", shape, tensors, numbers | {"group": TRANSFORMED})
        _call("sum_pieces", shape, tensors, numbers)
        return of_weight
    shares = max(1, min(SHARES, -(-tiles // group), SUMS // (c * d)))  # whatever the number of threads
    across = min(d // STEP, thread_team.count() // math.gcd(shares, thread_team.count()))
    sums, *rooms = _rooms(shares * parts * c * d, own=own)
    numbers |= {"group": group, "shares": shares, "across": across}
    _call("correlate_pieces", shape, tensors, numbers | {"y": sums}, own, rooms)
    _call("gather_pieces", shape, {"y": of_weight}, numbers | {"x": sums})
    return of_weight


def _rooms(*sizes: int, own: tuple[int, ...] = ()) -> Sequence[int]:
    """Addresses of rooms for so many numbers; after them those of rooms of which each thread has its `own`."""
    threads = thread_team.count()
    return scratchpad.take(*(FLOAT * size for size in sizes), *(threads * _size_of(size) for size in own))


def _size_of(room: int) -> int:
    """Bytes of a thread's room for so many numbers."""
    return scratchpad.whole_lines(FLOAT * room)


def _tiles(x: Tensor, m: int) -> int:
    return len(x) * -(-x.shape[2] // m) * -(-x.shape[3] // m)


def _call(
    pieces: str,
    shape: tuple[int, ...],
    tensors: dict[str, Tensor],
    numbers: dict[str, int],
    own: tuple[int, ...] = (),
    rooms: Sequence[int] = (),
) -> None:
    """Have all pieces of some work done by torch's threads, each of which has rooms of its `own`, in `rooms`."""
    fields = {name: tensor.data_ptr() for name, tensor in tensors.items()} | numbers
    for name, size, place in zip(("first", "second"), own, rooms, strict=False):
        fields |= {f"{name}_room": place, f"{name}_size": _size_of(size)}
    task = winograd_threads.task_of(shape, **fields)
    function = getattr(winograd_threads, pieces).address
    winograd_threads.call_together(thread_team.team(), function, task)
