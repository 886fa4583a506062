"""The passes of Winograd's convolutions over tensors in memory: by the calling thread, or by torch's."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from barlowctl.model import thread_team, winograd_kernels
from barlowctl.model.winograd_kernels import BLOCK
from barlowctl.model.winograd_vectors import ALL, LANES

AT_ONCE = 48
"""Pairs of pixels of a line, of several images, that are multiplied by the weights at a time."""
SUMMED = 128
"""The same whose float32 sums stay in the processor's cache before they are written."""
CORRELATED = 512
"""Pairs of pixels of two images that are summed into the gradient of the weights at a time."""
PRODUCTS = 8 * 64 * 64
"""Sums of that gradient, of parts of the batch, which several threads take: so many that adding them up is little."""


def transform_weights(weight: Tensor, *, turned: bool) -> np.ndarray:
    """The transformed weights of a convolution, or of that which is the gradient of its input.

    See `winograd_kernels.transform_weights`, and where they are `turned` `transform_turned_weights`.
    """
    lines = weight.detach().permute(0, 2, 3, 1).contiguous().numpy()  # copied where it is not channels_last
    d, _, _, c = lines.shape
    out, channels = (c, d) if turned else (d, c)
    matrices = np.empty((out // BLOCK, 4, 3, channels // 2, BLOCK), np.uint32)
    if (crew := thread_team.crew()) is not None:
        from barlowctl.model import winograd_threads as several

        task = several.task_of((1, 3, 3, c, d), x=lines.ctypes.data, y=matrices.ctypes.data)
        tiles = several.turn_tiles if turned else several.transform_tiles
        several.call_together(crew, tiles.address, task)
    elif turned:
        winograd_kernels.transform_turned_weights(lines, matrices, 0, d // 2)
    else:
        winograd_kernels.transform_weights(lines, matrices, 0, d)
    return matrices


def convolve(x: Tensor, matrices: np.ndarray, d: int) -> Tensor:
    """The convolution of x, bf16 `(n, c, h, w)` in channels_last, with transformed weights: `(n, d, h, w)`."""
    n, c, height, width = x.shape
    tiles = (width + 1) // 2
    group, crew = min(n, max(1, AT_ONCE // tiles)), thread_team.crew()
    threads = 1 if crew is None else crew[1]
    if threads > 1:  # as many groups for each
        rounds = -(-n // (group * threads))
        group = -(-n // (rounds * threads))
    lines = min(height, max(1, SUMMED // (group * tiles)))
    y = torch.empty((n, d, height, width), dtype=x.dtype, memory_format=torch.channels_last)
    transformed = torch.empty((threads, 4 * height * group * tiles * c), dtype=x.dtype)
    products, zeros = torch.empty((threads, 4 * lines * group * tiles * BLOCK)), torch.zeros(c, dtype=x.dtype)
    shape = n, height, width, c, d
    if crew is not None:
        from barlowctl.model import winograd_threads as several

        task = several.task_of(
            shape,
            x=x.data_ptr(),
            weights=matrices.ctypes.data,
            y=y.data_ptr(),
            zeros=zeros.data_ptr(),
            first_room=transformed.data_ptr(),
            second_room=products.data_ptr(),
            first_size=2 * transformed.shape[1],
            second_size=4 * products.shape[1],
            group=group,
            lines=lines,
        )
        several.call_together(crew, several.convolve_tiles.address, task)
        return y
    winograd_kernels.convolve(
        x.data_ptr(),
        matrices.ctypes.data,
        y.data_ptr(),
        zeros.data_ptr(),
        transformed.data_ptr(),
        products.data_ptr(),
        shape,
        group,
        lines,
    )
    return y


def gradient_of_weight(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient of the weight, float32 `(d, c, 3, 3)`, of x and that of the result, both bf16 in channels_last."""
    (n, c, height, width), d = x.shape, grad.shape[1]
    tiles = (width + 1) // 2
    lines = min(height, max(1, CORRELATED // tiles))
    group = min((n + 1) // 2, max(1, CORRELATED // (lines * tiles)))
    chunks = -(-n // (2 * group))
    images = 2 * group * -(-chunks // max(1, PRODUCTS // (c * d)))  # of a part, whatever the number of threads
    parts = -(-n // images)
    crew = thread_team.crew()
    threads = 1 if crew is None else crew[1]
    inputs = torch.empty((threads, 4 * c * (lines + 2) * group * tiles * 2), dtype=x.dtype)
    gradients = torch.empty((threads, 4 * d * lines * group * tiles * 2), dtype=x.dtype)
    zeros, products = (
        torch.zeros(max(c, d), dtype=x.dtype),
        np.empty((parts if threads > 1 else min(parts, 2), 4, 3, d, c), np.float32),
    )
    of_weight, shape = np.empty((d, 3, 3, c), np.float32), (n, height, width, c, d)
    addresses = (x.data_ptr(), grad.data_ptr(), zeros.data_ptr(), inputs.data_ptr(), gradients.data_ptr())
    if crew is not None:
        from barlowctl.model import winograd_threads as several

        fourths = 1 if parts % threads == 0 else 4
        task = several.task_of(
            shape,
            **dict(zip(("x", "gradient", "zeros", "first_room", "second_room"), addresses, strict=True)),
            y=products.ctypes.data,
            first_size=2 * inputs.shape[1],
            second_size=2 * gradients.shape[1],
            group=group,
            lines=lines,
            images=images,
            parts=parts,
            fourths=fourths,
            across=min(d // LANES, threads // math.gcd(fourths * parts, threads)),
        )
        several.call_together(crew, several.correlate_tiles.address, task)
        task = several.task_of(shape, x=products.ctypes.data, y=of_weight.ctypes.data, parts=parts)
        several.call_together(crew, several.gather_tiles.address, task)
    else:
        whole = ALL, (0, d // LANES)
        for part in range(parts):
            some, own = (part * images, min(n, (part + 1) * images)), products[min(part, 1)]
            winograd_kernels.correlate(*addresses, own.ctypes.data, shape, group, lines, some, *whole)
            if part > 0:
                products[0] += products[1]
        winograd_kernels.gather_gradient(products[:1], of_weight, 0, d)
    return torch.from_numpy(of_weight).permute(0, 3, 1, 2)
