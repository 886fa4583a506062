"""What the machine can do at most: a large matrix product and a large convolution, timed in a precision."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SECONDS = 0.3
"""How long each is repeated at least."""


@dataclass(frozen=True)
class Sizes:
    """side: of the square matrices. images, channels, map: of a 3 x 3 convolution that keeps its shape."""

    side: int
    images: int
    channels: int
    map: int

    @property
    def product_flops(self) -> float:
        return 2.0 * self.side**3

    @property
    def convolution_flops(self) -> float:
        return 2.0 * self.images * self.map**2 * 9 * self.channels**2


SIZES = {"cpu": Sizes(1024, 16, 128, 28), "cuda": Sizes(8192, 256, 512, 28)}


def rates(device: torch.device, precision: str, sizes: Sizes | None = None) -> dict[str, float]:
    """Floating-point operations per second (of the CPU's time on a CPU) of both, and of the better one as `best`."""
    of, dtype = sizes or SIZES[device.type], DTYPES[precision]
    with torch.no_grad():
        matrix = torch.randn(of.side, of.side, device=device).to(dtype)
        product = of.product_flops / _seconds(lambda: matrix @ matrix, device)
        images = torch.randn(of.images, of.channels, of.map, of.map, device=device).to(dtype)
        weight = torch.randn(of.channels, of.channels, 3, 3, device=device).to(dtype)
        images, weight = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (images, weight))
        convolution = of.convolution_flops / _seconds(lambda: F.conv2d(images, weight, padding=1), device)
    return {"product": product, "convolution": convolution, "best": max(product, convolution)}


def _seconds(compute: Callable[[], Tensor], device: torch.device) -> float:
    """Of one call, after two that do not count."""
    cuda = device.type == "cuda"
    for _ in range(2):
        compute()
    if cuda:
        torch.cuda.synchronize(device)
    clock = time.perf_counter if cuda else time.process_time
    begin, wall, calls = clock(), time.perf_counter(), 0
    while time.perf_counter() - wall < SECONDS:
        for _ in range(5):
            compute()
        if cuda:
            torch.cuda.synchronize(device)
        calls += 5
    return (clock() - begin) / calls
