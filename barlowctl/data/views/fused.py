"""The photometric chain of a batch in four Triton kernels, for GPUs: uint8 in and out, draws and order as in `batched`.

`batched` reads and writes the batch in float32 some hundred times; here pixels are read as they are, once or twice, and
what is blurred is in float32 between two passes. Sums are in a fixed order: the same draws give the same pixels.
"""

from __future__ import annotations

import numpy as np
import torch
import triton
from torch import Tensor

from barlowctl.data.views import chain_kernels
from barlowctl.data.views.batched import BRIGHTNESS, CONTRAST, HUE, SATURATION, bring, half_kernels
from barlowctl.data.views.parameters import Parameters

BLOCK = 1024  # pixels a program
OPTIONS = {"BLOCK": BLOCK, "num_warps": 8, "enable_fp_fusion": True}


def can(parameters: Parameters, channels: int) -> bool:
    """Whether images are grey or RGB, and none is drawn for PIRL's enhancements: the rest is not written here."""
    return channels in (1, 3) and not parameters.autocontrast.any()


def table(parameters: Parameters, channels: int) -> np.ndarray:
    """float32 (n, 20): a line an image, in the columns of `chain_kernels`."""
    n = len(parameters)
    steps = np.where(parameters.jitter[:, None], parameters.steps, -1)
    factors = np.take_along_axis(parameters.factors, parameters.steps, axis=1)
    colour = channels == 3
    idle = np.isin(steps, (SATURATION, HUE)) & ((factors == np.where(steps == HUE, 0.0, 1.0)) | (not colour))
    idle |= (steps == CONTRAST) & (factors == 1.0)
    idle |= (steps == BRIGHTNESS) & (factors == 1.0) & (parameters.shift[:, None] == 0.0)
    blurred = parameters.sigma > 0
    columns = [
        np.where(idle, -1, steps),
        factors,
        parameters.shift,
        parameters.grayscale * (2.0 if parameters.grayscale_first else 1.0) * colour,
        np.where(blurred, np.cumsum(blurred) - 1, -1),
        parameters.solarize,
        parameters.gamma,
        parameters.erased,
        parameters.levels,
    ]
    lines = np.concatenate([np.asarray(column, np.float32).reshape(n, -1) for column in columns], axis=1)
    return np.ascontiguousarray(lines)


def distort(pixels: Tensor, parameters: Parameters) -> Tensor:
    """The chain on uint8 (N, H, W, C), C 1 or 3, which it leaves alone.

    Args:
        parameters: of these N images, which `can` is true for.

    Returns:
        uint8 (N, H, W, C), contiguous.
    """
    count, height, width, channels = pixels.shape
    assert pixels.dtype == torch.uint8
    assert can(parameters, channels)
    pixels = pixels.contiguous()
    size, blocks = height * width, triton.cdiv(height * width, BLOCK)
    done = torch.empty_like(pixels)
    lines = bring(table(parameters, channels), pixels)
    sums = torch.empty(count, blocks, dtype=torch.float32, device=pixels.device)
    blurred = np.flatnonzero(parameters.sigma > 0)
    waiting, half = (
        torch.empty(len(blurred), channels, size, dtype=torch.float32, device=pixels.device) for _ in range(2)
    )
    chain_kernels.sum_gray[(blocks, count)](pixels, lines, sums, size, CHANNELS=channels, **OPTIONS)
    chain_kernels.distort[(blocks, count)](
        pixels, lines, sums, done, waiting, size, width, parameters.threshold,
        CHANNELS=channels, BLOCKS=triton.next_power_of_2(blocks), **OPTIONS,
    )  # fmt: skip
    if len(blurred):
        sigma = parameters.sigma[blurred]
        across, down = (
            bring(half_kernels(sigma, length, parameters.largest_sigma), pixels) for length in (width, height)
        )
        chain_kernels.blur_rows[(blocks, channels, len(blurred))](
            waiting, half, across, size, width, across.shape[1], **OPTIONS
        )
        chain_kernels.blur_columns[(blocks, len(blurred))](
            half, done, lines, bring(blurred.astype(np.int32), pixels), down, size, height, width, down.shape[1],
            parameters.threshold, CHANNELS=channels, **OPTIONS,
        )  # fmt: skip
    return done
