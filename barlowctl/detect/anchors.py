"""Anchors as detectron2 places them: not rounded, centred on whole multiples of the stride."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList


class Anchors(AnchorGenerator):
    """Anchors of every cell (i, j) of each feature map, with their centre at (stride i, stride j).

    torchvision rounds the sides of anchors to whole pixels and takes the stride from the sizes of image and map, in the
    maps' own precision; here sides are exact, strides are given, and coordinates are at least float32.

    Args:
        sizes: per map the square roots of its anchors' areas, in pixels.
        aspect_ratios: height / width; every size has all of them.
        strides: per map the pixels of the image that lie between two cells.
    """

    def __init__(
        self, sizes: Sequence[Sequence[float]], aspect_ratios: Sequence[float], strides: Sequence[int]
    ) -> None:
        super().__init__(tuple(map(tuple, sizes)), (tuple(aspect_ratios),) * len(sizes))
        self.strides = tuple(strides)

    def generate_anchors(
        self,
        scales: Sequence[float],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Anchors around the origin, float64 `(sizes x ratios, 4)`: size by size, each with all ratios."""
        sizes, ratios = (torch.tensor(values, dtype=torch.float64) for values in (scales, aspect_ratios))
        widths = (sizes[:, None] / ratios.sqrt()).flatten()
        heights = (sizes[:, None] * ratios.sqrt()).flatten()
        return torch.stack([-widths, -heights, widths, heights], dim=1) / 2

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Anchors `(n, 4)` of each image, map by map, row by row: the same for all of a batch."""
        first = feature_maps[0]
        self.set_cell_anchors(torch.promote_types(first.dtype, torch.float32), first.device)
        grids = [list(feature_map.shape[-2:]) for feature_map in feature_maps]
        strides = [[torch.tensor(stride, device=first.device)] * 2 for stride in self.strides]
        return [torch.cat(self.grid_anchors(grids, strides))] * len(image_list.image_sizes)
