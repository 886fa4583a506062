"""Feature maps are timm's own, of every layer, and know their stride and which images they can be of."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from barlowctl.errors import UserError
from barlowctl.model import build_backbone
from barlowctl.model.feature_maps import FeatureMaps

# Model, its arguments, side of an image, and for every layer: its name, channels and stride.
NETWORKS: list[tuple[str, dict[str, Any], int, list[tuple[str, int, int]]]] = [
    (
        "resnet10t", {}, 64,
        [("act1", 64, 2), ("layer1", 64, 4), ("layer2", 128, 8), ("layer3", 256, 16), ("layer4", 512, 32)],
    ),
    (
        "resnet18", {"stem": "cifar"}, 32,
        [("act1", 64, 1), ("layer1", 64, 1), ("layer2", 128, 2), ("layer3", 256, 4), ("layer4", 512, 8)],
    ),
    ("vit_tiny_patch16_224", {"img_size": 48}, 48, [(f"blocks.{block}", 192, 16) for block in range(12)]),
    ("deit_tiny_distilled_patch16_224", {"img_size": 32}, 32, [(f"blocks.{block}", 192, 16) for block in range(12)]),
    (
        "convnext_atto", {}, 64,
        [("stages.0", 40, 4), ("stages.1", 80, 8), ("stages.2", 160, 16), ("stages.3", 320, 32)],
    ),
]  # fmt: skip


def images(side: int, width: int | None = None) -> torch.Tensor:
    return torch.randn(2, 3, side, width or side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "arguments", "side", "layers"), NETWORKS, ids=[network[0] for network in NETWORKS])
def test_every_layer_is_timms(
    name: str, arguments: dict[str, Any], side: int, layers: list[tuple[str, int, int]]
) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, in_chans=3, **arguments).train()  # and yet in evaluation mode
    pictures = images(side)
    reference = backbone.eval()
    with torch.no_grad():
        final, every = reference.forward_intermediates(pictures)
        assert torch.equal(final, reference.forward_features(pictures))
    backbone.train()
    for number, (layer_name, channels, stride) in enumerate(layers):
        maps = FeatureMaps(backbone, number, size=side, in_chans=3)
        assert (maps.name, maps.channels, maps.stride, maps.layers) == (layer_name, channels, stride, len(layers))
        made = maps(pictures)
        assert made.shape == (2, channels, side // stride, side // stride)
        if number < len(layers) - 1:
            assert torch.equal(made, every[number])
    last = FeatureMaps(backbone, size=side, in_chans=3)(pictures)
    if final.ndim == 3:  # tokens: class, distillation and register tokens come first
        rows = side // layers[-1][2]
        tokens = final[:, backbone.num_prefix_tokens :]
        assert torch.equal(last.flatten(2).transpose(1, 2), tokens)
        assert torch.equal(last[:, :, 0, 1], tokens[:, 1])
        assert last.shape[2:] == (rows, rows)
    else:
        assert torch.equal(last, final)
    assert torch.equal(FeatureMaps(backbone, -1, size=side, in_chans=3)(pictures), last)
    assert backbone.training
    assert all(part.training for part in backbone.modules())


def test_which_images_a_network_takes() -> None:
    convolutions = FeatureMaps(build_backbone("resnet10t", in_chans=3), size=50, in_chans=3)
    assert (convolutions.size, convolutions.multiple, convolutions.any_size) == (50, 1, True)
    assert convolutions(images(50, 90)).shape == (2, 512, 2, 3)
    fixed = FeatureMaps(build_backbone("vit_tiny_patch16_224", in_chans=3, img_size=32), size=32, in_chans=3)
    assert (fixed.size, fixed.multiple, fixed.any_size) == (32, 16, False)
    resampling = build_backbone("vit_tiny_patch16_224", in_chans=3, img_size=32, dynamic_img_size=True)
    free = FeatureMaps(resampling, size=40, in_chans=3)
    assert (free.size, free.multiple, free.any_size) == (32, 16, True)  # 40 is between 32 and 48
    assert free(images(32, 64)).shape == (2, 192, 2, 4)


def test_refusals() -> None:
    class Vectors(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3))

    class Rows(Vectors):
        def forward_intermediates(self, images: torch.Tensor, **options: Any) -> list[torch.Tensor]:
            return [images.flatten(2)]

    for network in (Vectors(), Rows()):
        with pytest.raises(UserError, match=f"{type(network).__name__} has no maps of features"):
            FeatureMaps(network, size=32, in_chans=3)
    with pytest.raises(UserError, match="--layer is 5, and the backbone has 5 layers") as refused:
        FeatureMaps(build_backbone("resnet10t", in_chans=3), 5, size=32, in_chans=3)
    assert refused.value.allowed == "0 (act1), 1 (layer1), 2 (layer2), 3 (layer3), 4 (layer4)"
    with pytest.raises(UserError, match="gives no maps of images of 64 x 64") as refused:
        FeatureMaps(timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32), size=64, in_chans=3)
    assert refused.value.next == "without --image-size"
