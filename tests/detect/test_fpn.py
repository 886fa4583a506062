"""The feature pyramid on networks of several families: strides, sizes, weights, gradients, and who is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from torch import nn

from barlowctl.detect.build import build
from barlowctl.detect.pyramid import Pyramid
from barlowctl.errors import UserError
from tests.detect import detectors

SMALL = replace(detectors.SMALL, box_features=32)
LEVELS = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}


def network(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return detectors.with_statistics(timm.create_model(name, num_classes=0, **options))


NETWORKS = {
    "a ResNet": lambda: detectors.narrow_resnet(),
    "a ConvNeXt": lambda: network("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)),
    "a RegNet": lambda: network("regnetx_002"),
    "a vision transformer": lambda: network("vit_tiny_patch16_224", depth=2, embed_dim=24, img_size=64),
    "a Swin": lambda: network(
        "swin_tiny_patch4_window7_224",
        depths=(1, 1, 1, 1),
        embed_dim=8,
        num_heads=(1, 1, 2, 2),
        img_size=64,
        window_size=4,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_family_has_four_levels_and_all_of_it_is_trained(name: str) -> None:
    backbone = NETWORKS[name]()
    model = build(backbone, num_classes=3, head="fpn", masks=True, settings=SMALL).train()
    assert model.features.strides == LEVELS
    assert model.rpn.anchor_generator.strides == (4, 8, 16, 32, 64)
    assert model.rpn.anchor_generator.sizes == ((32,), (64,), (128,), (256,), (512,))
    assert model.multiple == 32
    maps = model.features(torch.zeros(1, 3, 64, 96))
    assert [(key, tuple(value.shape)) for key, value in maps.items()] == [
        ("p2", (1, 256, 16, 24)), ("p3", (1, 256, 8, 12)), ("p4", (1, 256, 4, 6)), ("p5", (1, 256, 2, 3)),
        ("pool", (1, 256, 1, 2)),
    ]  # fmt: skip
    terms = model(detectors.batch([(64, 96), (96, 64), (64, 64)]))
    terms.loss.backward()
    assert [key for key, value in terms._asdict().items() if not value > 0] == []
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []
    state = model.state_dict()
    remaining = {key: value for key, value in backbone.state_dict().items() if f"features.network.model.{key}" in state}
    assert len(remaining) >= len(backbone.state_dict()) - 4  # except for what stands behind the last map
    for detections in model.eval().predict(detectors.images([(64, 96), (96, 64)]), [(128, 192), (96, 64)]):
        assert len(detections.masks) == len(detections)


def test_the_networks_own_weights_and_maps() -> None:
    backbone = detectors.narrow_resnet().eval()
    model = build(backbone, num_classes=3, head="fpn", settings=SMALL).eval()
    state = model.state_dict()
    for key, value in backbone.state_dict().items():
        assert torch.equal(state[f"features.network.model.{key}"], value)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = model.features.network(images)
        torch.testing.assert_close(maps[-1], backbone.forward_features(images))
    assert [part.shape[1] for part in maps] == [16, 32, 64, 128]


def test_detectron2s_settings_of_its_pyramids() -> None:
    model = build(detectors.narrow_resnet(), num_classes=80, head="fpn", masks=True)
    assert model.rpn._post_nms_top_n == {"training": 1000, "testing": 1000}
    assert model.rpn._pre_nms_top_n == {"training": 2000, "testing": 1000}
    assert model.rpn.anchor_generator.num_anchors_per_location() == [3] * 5
    assert model.heads.box_head.fc6.weight.shape == (1024, 256 * 7 * 7)
    assert (model.heads.box_roi_pool.size, model.heads.mask_pool.size) == (7, 14)
    assert model.heads.mask_head[1].mask_fcn_logits.weight.shape == (80, 256, 1, 1)


def test_one_map_is_scaled_to_four() -> None:
    pyramid = Pyramid(NETWORKS["a vision transformer"]())
    assert pyramid.scales is not None
    given = torch.zeros(1, 24, 4, 6)
    assert [tuple(scale(given).shape[2:]) for scale in pyramid.scales] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_recomputation_leaves_the_gradient() -> None:
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = build(NETWORKS["a ResNet"](), num_classes=3, head="fpn", settings=replace(SMALL, recompute=recompute))
        model.train()(detectors.batch()).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Linear(2, 2), "a Linear gives no maps"),
        (lambda: timm.create_model("vit_tiny_patch16_224", patch_size=14, depth=1, num_classes=0), r"strides \[14\]"),
        (lambda: timm.create_model("mixer_s32_224", num_classes=0), "does not take images of 128 x 192"),
    ],
)
def test_who_gives_no_maps_of_any_size_is_refused(make: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as raised:
        build(make(), num_classes=2, head="fpn")
    assert raised.value.allowed is not None
    assert "resnet50" in raised.value.allowed
