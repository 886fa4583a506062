"""RoIs pooled from feature maps as detectron2's ROIAlignV2 does it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper, _convert_to_roi_format


class AlignedRoIPool(nn.Module):
    """RoIAlign with pixel centres at one half, and as many samples in a bin as it has cells of the map.

    torchvision's `MultiScaleRoIAlign` shifts by half a cell (`aligned=False`) and takes 2 x 2 samples.
    With several maps each RoI is pooled from that of its size (FPN, arXiv 1612.03144, equation 1).

    Args:
        size: cells a side of what is returned.
        strides: by the name of a map, pixels between its cells; maps of other names are left out. Powers of two.
    """

    def __init__(self, size: int, strides: Mapping[str, int]) -> None:
        super().__init__()
        self.size, self.strides = size, dict(strides)
        levels = [int(math.log2(stride)) for stride in self.strides.values()]
        self.level_of = LevelMapper(min(levels), max(levels))
        self.numbers = {level - min(levels): name for level, name in zip(levels, self.strides, strict=True)}

    def forward(
        self, features: Mapping[str, Tensor], boxes: list[Tensor], image_shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Boxes `(n_i, 4)` of each image, in its pixels -> `(sum n_i, C, size, size)`."""
        rois = _convert_to_roi_format(boxes)
        if len(self.strides) == 1:
            return self._pool(features, next(iter(self.strides)), rois)
        levels = self.level_of(boxes)
        pooled = [(torch.where(levels == number)[0], name) for number, name in self.numbers.items()]
        order = torch.cat([rows for rows, _ in pooled]).argsort()
        return torch.cat([self._pool(features, name, rois[rows]) for rows, name in pooled])[order]

    def _pool(self, features: Mapping[str, Tensor], name: str, rois: Tensor) -> Tensor:
        feature_map = features[name]
        pooled: Tensor = roi_align(
            feature_map,
            rois.to(feature_map.dtype) if feature_map.dtype == torch.float64 else rois,
            (self.size, self.size),
            spatial_scale=1.0 / self.strides[name],
            sampling_ratio=0,
            aligned=True,
        )
        return pooled
