"""The passes of Winograd's convolutions over tensors in memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from barlowctl.kernels import thread_team
from barlowctl.model import winograd_threads
from barlowctl.model.winograd_kernels import PAD, STEP
from barlowctl.model.winograd_vectors import BLOCK

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
    tensors = {"x": x, "y": y, "zeros": _room(channels).zero_()}
    numbers = {"m": m, "tiles": tiles, "turned": int(turned), "itemsize": x.itemsize}
    if tiles <= out and out >= MANY_CHANNELS:  # each weight is transformed for all tiles, and thrown away
        tensors |= {"inputs": _room(parts * (tiles * channels + PAD // 4)), "weights": lines}
        group = min(tiles, MULTIPLIED)
        _call("input_pieces", shape, tensors, numbers | {"group": TRANSFORMED})
        rooms = parts * (channels * BLOCK + PAD // 4), BLOCK + group * parts * BLOCK
        _call("block_pieces", shape, tensors, numbers | {"group": group}, *rooms)
        return y
    matrices = _room(parts * (channels * out + -(-out // BLOCK) * PAD // 4))
    _call("transform_pieces", shape, {"x": lines, "y": matrices}, numbers)
    rounds = -(-tiles // (CONVOLVED * thread_team.count()))
    group = -(-tiles // (rounds * thread_team.count()))  # as many groups for each thread
    rooms = parts * (group * channels + PAD // 4), BLOCK + group * parts * BLOCK
    _call("convolve_pieces", shape, tensors | {"weights": matrices}, numbers | {"group": group}, *rooms)
    return y


def gradient_of_weight(x: Tensor, grad: Tensor, m: int) -> Tensor:
    """The gradient of the weight `(d, c, 3, 3)`, of x and that of the result, both in channels_last."""
    (n, c, height, width), d = x.shape, grad.shape[1]
    tiles, parts, shape = _tiles(x, m), (m + 2) ** 2, (n, height, width, c, d)
    numbers = {"m": m, "tiles": tiles, "itemsize": x.itemsize}
    of_weight = _room(d, 3, 3, c)
    tensors = {"x": x, "gradient": grad, "zeros": _room(max(c, d)).zero_()}
    apart = 2 * tiles > min(c, d)  # else what is transformed is less than the sums
    group = min(tiles, CORRELATED) if apart else tiles
    rooms = parts * (group * c + -(-c // BLOCK) * PAD // 4), parts * (group * d + d // STEP * PAD // 4)
    if not apart:
        tensors |= {"first_room": _room(rooms[0]), "second_room": _room(rooms[1]), "y": of_weight}
        _call("spread_pieces", shape, tensors, numbers | {"group": TRANSFORMED})
        _call("sum_pieces", shape, tensors, numbers)
        return of_weight.permute(0, 3, 1, 2)
    shares = max(1, min(SHARES, -(-tiles // group), SUMS // (c * d)))  # whatever the number of threads
    across = min(d // STEP, thread_team.count() // math.gcd(shares, thread_team.count()))
    sums = _room(shares * parts * c * d)
    numbers |= {"group": group, "shares": shares, "across": across}
    _call("correlate_pieces", shape, tensors | {"y": sums}, numbers, *rooms)
    _call("gather_pieces", shape, {"x": sums, "y": of_weight}, numbers)
    return of_weight.permute(0, 3, 1, 2)


def _room(*size: int) -> Tensor:
    return torch.empty(size, dtype=torch.float32)


def _tiles(x: Tensor, m: int) -> int:
    return len(x) * -(-x.shape[2] // m) * -(-x.shape[3] // m)


def _call(
    pieces: str, shape: tuple[int, ...], tensors: dict[str, Tensor], numbers: dict[str, int], *rooms: int
) -> None:
    """Have all pieces of some work done by torch's threads, each of which has rooms for so many numbers."""
    own = [_room(thread_team.count(), size) for size in rooms]
    fields = {name: tensor.data_ptr() for name, tensor in tensors.items()} | numbers
    for name, room in zip(("first", "second"), own, strict=False):
        fields |= {f"{name}_room": room.data_ptr(), f"{name}_size": 4 * room.shape[1]}
    task = winograd_threads.task_of(shape, **fields)
    function = getattr(winograd_threads, pieces).address
    winograd_threads.call_together(thread_team.crew(), function, task)
