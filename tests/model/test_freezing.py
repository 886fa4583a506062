"""What can be frozen of a backbone, under timm's names: ResNet, ViT, ConvNeXt, and others."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.model import build_backbone, freezable, frozen_modules, frozen_parameters

TINY_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 12, "depth": 3, "num_heads": 2}
BACKBONES = {
    "resnet": ("resnet10t", {"channels": [4, 8, 8, 16], "stem_width": 4}),
    "vit": ("vit_tiny_patch16_224", {**TINY_VIT, "reg_tokens": 2}),
    "convnext": ("convnext_atto", {"depths": [1, 1, 1, 1], "dims": [4, 8, 8, 16]}),
    "efficientnet": ("efficientnet_lite0", {}),
    "regnet": ("regnetx_002", {}),
}
PARTS = {
    "resnet": ["stem", "layer1", "layer2", "layer3", "layer4", "backbone"],
    "vit": ["patch_embed", "stem", "blocks.0", "blocks.1", "blocks.2", "backbone"],
    "convnext": ["stem", "stages.0", "stages.1", "stages.2", "stages.3", "backbone"],
    "efficientnet": ["stem", *(f"blocks.{number}" for number in range(7)), "backbone"],
    "regnet": ["stem", "s1", "s2", "s3", "s4", "backbone"],
}
# Of each part, starts of the names of all that it holds beside the parts before it, written by hand.
HOLDS = {
    "resnet": {"stem": ["conv1.", "bn1."], **{f"layer{n}": [f"layer{n}."] for n in range(1, 5)}, "backbone": []},
    "vit": {
        "patch_embed": ["patch_embed."],
        "stem": ["cls_token", "reg_token", "pos_embed"],
        "blocks.0": ["blocks.0."],
        "blocks.1": ["blocks.1."],
        "blocks.2": ["blocks.2.", "norm."],  # the norm behind the last block is a part of it, for timm
        "backbone": [],
    },
    "convnext": {"stem": ["stem."], **{f"stages.{n}": [f"stages.{n}."] for n in range(4)}, "backbone": ["head."]},
}


def build(kind: str) -> nn.Module:
    name, arguments = BACKBONES[kind]
    return build_backbone(name, in_chans=3, **arguments)


@pytest.mark.parametrize("kind", BACKBONES)
def test_parts_have_timms_names_and_each_holds_those_below_it(kind: str) -> None:
    backbone = build(kind)
    parts = freezable(backbone)
    assert list(parts) == PARTS[kind]
    sets = list(parts.values())
    assert all(below < above or below == above for below, above in itertools.pairwise(sets))
    assert parts["backbone"] == {name for name, _ in (*backbone.named_parameters(), *backbone.named_buffers())}
    assert list(parts)[-2] in [info["module"] for info in backbone.feature_info]  # type: ignore[union-attr,index,operator]


@pytest.mark.parametrize("kind", HOLDS)
def test_a_part_holds_what_lies_between_the_images_and_its_end(kind: str) -> None:
    backbone = build(kind)
    names = [name for name, _ in (*backbone.named_parameters(), *backbone.named_buffers())]
    below: tuple[str, ...] = ()
    for part, starts in HOLDS[kind].items():
        below += tuple(starts)
        expected = {name for name in names if name.startswith(below)}
        assert freezable(backbone)[part] == expected
        trained = {name for name, _ in backbone.named_parameters()} & expected
        assert {id(p) for p in frozen_parameters(backbone, part)} == {
            id(p) for name, p in backbone.named_parameters() if name in trained
        }


@pytest.mark.parametrize("kind", HOLDS)
def test_nothing_within_a_part_is_computed_with_a_gradient(kind: str) -> None:
    backbone, image = build(kind), torch.rand(2, 3, 32, 32)
    head = nn.Linear(int(backbone.num_features), 1)  # type: ignore[arg-type]
    for part in freezable(backbone):
        frozen = set(frozen_parameters(backbone, part))
        for parameter in backbone.parameters():
            parameter.requires_grad_(parameter not in frozen)
        outputs: list[Tensor] = []
        hooks = [module.register_forward_hook(_keep(outputs)) for module in frozen_modules(backbone, part)]
        head(backbone(image)).sum().backward()
        for hook in hooks:
            hook.remove()
        assert outputs, part
        assert not any(output.requires_grad for output in outputs), part
        assert {p for p in backbone.parameters() if p.grad is not None} == set(backbone.parameters()) - frozen
        backbone.zero_grad()


def _keep(outputs: list[Tensor]) -> Callable[[nn.Module, object, Tensor], None]:
    return lambda module, inputs, output: outputs.append(output)


def test_the_largest_modules_are_named_and_none_of_none() -> None:
    backbone = build("resnet")
    of = {module: name for name, module in backbone.named_modules()}
    assert [of[module] for module in frozen_modules(backbone, "layer1")] == ["conv1", "bn1", "layer1"]
    assert [of[module] for module in frozen_modules(backbone, "backbone")] == [""]
    assert frozen_modules(backbone, "none") == ()
    assert frozen_parameters(backbone, "none") == ()


def test_batch_norm_without_parameters_belongs_to_its_part() -> None:
    backbone = build("resnet")
    backbone.bn1 = nn.BatchNorm2d(4, affine=False)
    assert backbone.bn1 in frozen_modules(backbone, "stem")


@pytest.mark.parametrize(("kind", "near"), [("resnet", "layer7"), ("vit", "blocks.9"), ("convnext", "stages.7")])
def test_a_part_that_the_backbone_does_not_have_is_refused(kind: str, near: str) -> None:
    with pytest.raises(UserError, match=f"train.freeze is '{near}', and the backbone") as refused:
        frozen_modules(build(kind), near)
    assert refused.value.allowed == ", ".join(["none", *PARTS[kind]])
    assert refused.value.next == f"--set train.freeze={PARTS[kind][0]}"


def test_of_a_network_that_timm_does_not_group_only_the_whole_can_stay() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    assert list(freezable(network)) == ["backbone"]
    with pytest.raises(UserError, match="has no such part") as refused:
        frozen_modules(network, "stem")
    assert refused.value.allowed == "none, backbone"


def test_a_model_that_timm_has_not_grouped_has_the_parts_of_its_feature_info() -> None:
    with torch.device("meta"):
        backbone = build_backbone("caformer_s18", in_chans=3)
    parts = freezable(backbone)
    assert list(parts) == ["stages.0", "stages.1", "stages.2", "stages.3", "backbone"]
    assert {name.split(".")[0] for name in parts["stages.0"]} == {"stem", "stages"}
    assert {name.split(".")[1] for name in parts["stages.1"] if name.startswith("stages")} == {"0", "1"}


@pytest.mark.slow
def test_every_family_of_timm_has_parts() -> None:
    """The smallest model of each module of timm that builds without a network, on the meta device."""
    without = set()
    for module in timm.list_modules():
        name = min(timm.list_models(module=module), key=len)
        try:
            with torch.device("meta"):
                backbone = timm.create_model(name, num_classes=0)
        except Exception:  # needs what is not installed
            continue
        parts = list(freezable(backbone))
        assert parts[-1] == "backbone"
        if len(parts) < 3:
            without.add(module)
    assert not without
