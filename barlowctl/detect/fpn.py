"""The second stage on a feature pyramid, with detectron2's settings of its FPN models: not the paper's detector."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from barlowctl.detect.pyramid import CHANNELS
from barlowctl.detect.roi_heads import BoxPredictor, SecondStage, Sizes
from barlowctl.detect.roi_pool import AlignedRoIPool
from barlowctl.detect.rpn import at_least_float32
from barlowctl.detect.settings import ModelSettings

CELLS, MASK_CELLS = 7, 14


class PyramidMaskHead(nn.Sequential):
    """Four 3 x 3 convolutions, a deconvolution and a 1 x 1 convolution to a mask for each class.

    As detectron2 begins: Kaiming normal over the fan-out, N(0, 0.001) for the last one, biases 0.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        last = MaskRCNNPredictor(width, width, num_classes)
        nn.init.zeros_(last.conv5_mask.bias)
        nn.init.normal_(last.mask_fcn_logits.weight, std=0.001)
        nn.init.zeros_(last.mask_fcn_logits.bias)
        super().__init__(MaskRCNNHeads(CHANNELS, (width,) * 4, 1), last)

    def forward(self, x: Tensor) -> Tensor:
        """`(R, 256, S, S)` -> logits `(R, K, 2 S, 2 S)`, float32."""
        for layer in self:
            x = layer(x)
        return at_least_float32(x)


class PyramidHeads(SecondStage):
    """RoIs of 7 x 7 cells through two linear layers; masks from RoIs of 14 x 14, pooled for themselves.

    Args:
        strides: of the pyramid's maps, by name.
    """

    title = "FPN"

    def __init__(self, strides: Mapping[str, int], num_classes: int, settings: ModelSettings, *, masks: bool) -> None:
        head = TwoMLPHead(CHANNELS * CELLS**2, settings.box_features)
        for layer in (head.fc6, head.fc7):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
        super().__init__(
            AlignedRoIPool(CELLS, strides),
            head,
            BoxPredictor(settings.box_features, num_classes),
            settings,
            PyramidMaskHead(settings.mask_channels, num_classes) if masks else None,
        )
        self.mask_pool = AlignedRoIPool(MASK_CELLS, strides)

    def regions(self, features: Mapping[str, Tensor], boxes: list[Tensor], sizes: Sizes) -> Tensor:
        """`(R, 256, 7, 7)`."""
        regions: Tensor = self.box_roi_pool(features, boxes, sizes)
        return regions

    def vectors(self, regions: Tensor) -> Tensor:
        """`(R, box_features)`."""
        vectors: Tensor = self.box_head(regions)
        return vectors

    def mask_regions(
        self, features: Mapping[str, Tensor], boxes: list[Tensor], sizes: Sizes, regions: Tensor | None
    ) -> Tensor:
        """`(R, 256, 14, 14)`."""
        pooled: Tensor = self.mask_pool(features, boxes, sizes)
        return pooled
