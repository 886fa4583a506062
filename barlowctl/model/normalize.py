"""Pixels from the loader to the network's input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class InputNormalization(nn.Module):
    """uint8 images (N, H, W, C) to float32 (N, C, H, W): (pixel / 255 - mean) / std.

    The layout in memory stays that of the images, which for (N, C, H, W) is torch.channels_last: permuting
    moves nothing. Mean and std are per channel, of pixels in [0, 1]; they follow the module's device and are
    not part of its state_dict (they are settings, not weights).
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not len(mean):
            raise ValueError(f"mean has {len(mean)} numbers and std has {len(std)}: one of each per channel")
        if min(std) <= 0:
            raise ValueError(f"std is {list(std)}: every number must be positive")
        m = torch.tensor(mean, dtype=torch.float64)
        s = torch.tensor(std, dtype=torch.float64)
        self.register_buffer("scale", (1 / (255 * s)).float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", (-m / s).float().view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != self.scale.shape[1]:
            raise ValueError(
                f"expected uint8 images (N, H, W, {self.scale.shape[1]}), got {images.dtype} {tuple(images.shape)}"
            )
        return images.permute(0, 3, 1, 2).float() * self.scale + self.shift
