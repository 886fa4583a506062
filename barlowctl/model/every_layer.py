"""Every layer of a backbone and of the projector on it, as features of an image."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.model.feature_maps import FAILURES, layers_of
from barlowctl.modes import in_mode

FEATURES = "features"
"""What the layer is called that the backbone gives: what is measured elsewhere, and exported."""


class Layer(NamedTuple):
    """name: what the model calls it. width: of its features."""

    name: str
    width: int


class EveryLayer(nn.Module):
    """`images (N, C, H, W) -> (N, sum of all widths)`: the features of every layer beside one another, in one pass.

    Of a layer within the backbone they are the mean of its map (of a transformer's block: of its patch tokens). Then
    come the backbone's own features, and of a projector what is behind each Linear with its norm and activation; its
    last layer is the embedding. A last map whose mean the features are is not there twice.

    Attributes:
        layers: names and widths, in the order of the features.

    Args:
        backbone: a timm model. projector: a row of modules, on the features, which follow the backbone to its device;
            None: there is none.
        size: side of images that the backbone takes.

    Raises:
        UserError: a backbone that has no layers to look into.
    """

    def __init__(self, backbone: nn.Module, projector: nn.Module | None, *, size: int, in_chans: int) -> None:
        super().__init__()
        self.backbone = backbone
        stages = list(projector) if isinstance(projector, nn.Sequential) else []
        starts = [place for place, module in enumerate(stages) if isinstance(module, nn.Linear)]
        ends = [*starts, len(stages)][1:]
        self.projector = nn.ModuleList(
            nn.Sequential(*stages[start:end]) for start, end in zip(starts, ends, strict=True)
        )
        self._repeats_last = False
        device = next((parameter.device for parameter in backbone.parameters()), torch.device("cpu"))
        self.projector.to(device)
        self.layers = self._looked_up(size, in_chans, device)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return torch.cat([features.float() for features in self._each(images)], dim=1)

    def split(self, features: Tensor) -> list[Tensor]:
        """What `forward` returned, layer by layer."""
        return list(features.split([layer.width for layer in self.layers], dim=1))

    def _each(self, images: Tensor) -> list[Tensor]:
        model = cast(Any, self.backbone)
        final, maps = model.forward_intermediates(images)
        features: Tensor = model.forward_head(final)
        within = [map.mean(dim=(2, 3)) for map in maps]
        rows = [*(within[:-1] if self._repeats_last else within), features]
        embedded = features
        for stage in self.projector:
            embedded = stage(embedded)
            rows.append(embedded)
        return rows

    def _looked_up(self, size: int, in_chans: int, device: torch.device) -> list[Layer]:
        """Names and widths, by one image; also whether the last map's mean is what the backbone gives."""
        image = torch.rand(1, in_chans, size, size, generator=torch.Generator().manual_seed(0)).to(device)
        try:
            with in_mode(self, training=False), torch.no_grad():
                rows, features = self._each(image), self.backbone(image)
        except (*FAILURES, AttributeError) as error:
            raise _opaque(self.backbone) from error
        place = len(rows) - 1 - len(self.projector)
        if not torch.allclose(rows[place], features, rtol=1e-4, atol=1e-5):
            raise _opaque(self.backbone)
        names = [name or f"layer {number}" for number, (name, _) in enumerate(layers_of(self.backbone, place))]
        last = rows[place - 1]
        self._repeats_last = last.shape == features.shape and torch.allclose(last, features, rtol=1e-4, atol=1e-5)
        if self._repeats_last:
            del rows[place - 1], names[-1]
        names += [FEATURES, *(f"projector {number}" for number in range(1, 1 + len(self.projector)))]
        return [Layer(name, row.shape[1]) for name, row in zip(names, rows, strict=True)]


def _opaque(backbone: nn.Module) -> UserError:
    return UserError(
        f"{type(backbone).__name__} does not show what its layers give",
        allowed="timm's models with forward_intermediates, such as resnet50, vit_small_patch16_224, convnext_tiny",
    )
