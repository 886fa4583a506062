"""A format that torch loads: `model` is a module of images in and features out."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from barlowctl.exports.formats.silent import Silent
from barlowctl.exports.formats.tolerance import SUMMED_IN_ANOTHER_ORDER

if TYPE_CHECKING:
    from torch import Tensor, nn

    from barlowctl.exports.exported import ExportedModel


class TorchModule(Silent):
    """What timm's and torchvision's formats share."""

    tolerance: ClassVar[float] = SUMMED_IN_ANOTHER_ORDER

    def features(self, model: ExportedModel, loaded: nn.Module, pixels: Tensor) -> Tensor:
        features: Tensor = loaded(model.input_of(pixels))
        return features
