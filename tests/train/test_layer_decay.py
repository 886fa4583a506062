"""Layer-wise rates: the scale of every layer written out by hand, and timm's own for models with a classifier."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from barlowctl.errors import UserError
from barlowctl.train.layer_decay import layer_scales, split_by_layer
from barlowctl.train.optim import learning_rates, parameter_groups, set_learning_rates

DECAY = 0.75
# Model -> how far each part is from the head, by the start of its parameters' names.
DISTANCES = {
    "resnet18": {  # the stem, four stages of two blocks, the head: 9 to 0
        "conv1": 9, "bn1": 9,
        "layer1.0": 8, "layer1.1": 7, "layer2.0": 6, "layer2.1": 5,
        "layer3.0": 4, "layer3.1": 3, "layer4.0": 2, "layer4.1": 1,
    },
    "vit_tiny_patch16_224": {  # the embedding, twelve blocks (the last one with the final norm), the head: 13 to 0
        "cls_token": 13, "pos_embed": 13, "patch_embed": 13,
        **{f"blocks.{block}.": 12 - block for block in range(12)},
        "norm": 1,
    },
    "convnext_atto": {  # the stem, 2 + 2 + 6 + 2 blocks (the first of a stage with its downsampling), the head
        "stem": 13,
        "stages.0.blocks.0": 12, "stages.0.blocks.1": 11,
        "stages.1.downsample": 10, "stages.1.blocks.0": 10, "stages.1.blocks.1": 9,
        "stages.2.downsample": 8, **{f"stages.2.blocks.{block}": 8 - block for block in range(6)},
        "stages.3.downsample": 2, "stages.3.blocks.0": 2, "stages.3.blocks.1": 1,
        "head": 0,  # its norm is trained with the classifier
    },
}  # fmt: skip


@pytest.mark.parametrize("name", DISTANCES)
def test_the_scale_of_every_layer_is_the_one_written_by_hand(name: str) -> None:
    backbone = timm.create_model(name, num_classes=0)
    scales = layer_scales(backbone, DECAY)
    assert scales.keys() == dict(backbone.named_parameters()).keys()
    for parameter, scale in scales.items():
        (distance,) = {steps for start, steps in DISTANCES[name].items() if parameter.startswith(start)}
        assert scale == DECAY**distance, parameter
    starts = [start for start in DISTANCES[name] if not any(parameter.startswith(start) for parameter in scales)]
    assert not starts  # no part was written down that the model does not have


@pytest.mark.parametrize("name", [*DISTANCES, "deit_tiny_distilled_patch16_224", "efficientnet_lite0", "regnetx_002"])
def test_a_backbone_has_the_scales_that_timm_gives_the_model_with_its_classifier(name: str) -> None:
    whole = timm.create_model(name, num_classes=3)
    expected = {
        id(parameter): group["lr_scale"]
        for group in param_groups_layer_decay(whole, layer_decay=DECAY)
        for parameter in group["params"]
    }
    by_name = {key: expected[id(parameter)] for key, parameter in whole.named_parameters()}
    scales = layer_scales(timm.create_model(name, num_classes=0), DECAY)
    assert scales == {key: by_name[key] for key in scales}
    assert all(by_name[key] == 1.0 for key in by_name.keys() - scales.keys())


def test_groups_are_split_by_the_share_of_their_rate() -> None:
    method = nn.ModuleDict({"backbone": timm.create_model("resnet18", num_classes=0), "head": nn.Linear(512, 3)})
    backbone = method["backbone"]
    scales = layer_scales(backbone, DECAY)
    by_parameter = {parameter: scales[name] for name, parameter in backbone.named_parameters()}
    whole = parameter_groups(method, lr=0.1, lr_biases=0.2, weight_decay=0.05)
    groups = split_by_layer(whole, by_parameter)
    shares = [DECAY**distance for distance in range(10)]
    assert [group["lr_scale"] for group in groups] == 2 * shares  # weights, then biases; the head is the first of each
    assert [group["name"] for group in groups[:2]] == ["weights", "weights-x0.75"]
    assert [group["weight_decay"] for group in groups] == [0.05] * 10 + [0.0] * 10
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in method.parameters()}
    for group, scale in zip(groups, 2 * shares, strict=True):
        assert {by_parameter.get(parameter, 1.0) for parameter in group["params"]} == {scale}
        for group_of in whole:
            if group["name"].startswith(group_of["name"]):
                assert group["peak_lr"] == group["lr"] == group_of["lr"] * scale

    optimizer = torch.optim.AdamW([{k: v for k, v in group.items() if k != "adapt"} for group in groups])
    set_learning_rates(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
        [0.05 * share for share in shares] + [0.1 * share for share in shares], rel=1e-15
    )
    assert learning_rates(optimizer, 0.5) == {"weights": 0.05, "biases": 0.1}  # shares of them are not logged again


def test_one_rate_for_all_leaves_the_groups_as_they_are() -> None:
    backbone = timm.create_model("resnet18", num_classes=0)
    groups = parameter_groups(backbone, lr=0.1, lr_biases=0.2, weight_decay=0.05)
    split = split_by_layer(groups, dict.fromkeys(backbone.parameters(), layer_scales(backbone, 1.0)["conv1.weight"]))
    assert split == [{**group, "lr_scale": 1.0} for group in groups]


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.5, float("nan")])
def test_a_decay_that_is_none_is_refused(decay: float) -> None:
    with pytest.raises(UserError, match="layer_decay is"):
        layer_scales(timm.create_model("resnet18", num_classes=0), decay)


def test_a_network_without_layers_that_it_names_is_refused() -> None:
    with pytest.raises(UserError, match="Linear does not say what its layers are") as refused:
        layer_scales(nn.Linear(2, 2), 0.5, setting="layer_decay")
    assert refused.value.next == "--set layer_decay=1"
