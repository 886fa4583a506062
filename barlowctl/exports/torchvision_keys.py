"""What torchvision calls the parameters of networks that timm built (vision transformer, ConvNeXt), and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

_LAYER = "encoder.layers.encoder_layer_{}"
VISION_TRANSFORMER = (
    ("cls_token", "class_token"),
    ("pos_embed", "encoder.pos_embedding"),
    ("patch_embed.proj.{}", "conv_proj.{}"),
    ("blocks.{}.norm1.{}", f"{_LAYER}.ln_1.{{}}"),
    ("blocks.{}.attn.qkv.{}", f"{_LAYER}.self_attention.in_proj_{{}}"),
    ("blocks.{}.attn.proj.{}", f"{_LAYER}.self_attention.out_proj.{{}}"),
    ("blocks.{}.norm2.{}", f"{_LAYER}.ln_2.{{}}"),
    ("blocks.{}.mlp.fc1.{}", f"{_LAYER}.mlp.0.{{}}"),
    ("blocks.{}.mlp.fc2.{}", f"{_LAYER}.mlp.3.{{}}"),
    ("norm.{}", "encoder.ln.{}"),
)
CONVNEXT = (
    ("stem.0.{}", "features.0.0.{}"),
    ("stem.1.{}", "features.0.1.{}"),
    *(
        (f"stages.{stage}.{ours}", f"features.{2 * stage + odd}.{theirs}")
        for stage in range(4)
        for odd, ours, theirs in (
            (0, "downsample.0.{}", "0.{}"),
            (0, "downsample.1.{}", "1.{}"),
            (1, "blocks.{}.conv_dw.{}", "{}.block.0.{}"),
            (1, "blocks.{}.norm.{}", "{}.block.2.{}"),
            (1, "blocks.{}.mlp.fc1.{}", "{}.block.3.{}"),
            (1, "blocks.{}.mlp.fc2.{}", "{}.block.5.{}"),
            (1, "blocks.{}.gamma", "{}.layer_scale"),
        )
        if odd or stage  # the first stage follows the stem: features.0 is that
    ),
    ("head.norm.{}", "classifier.0.{}"),
)
RESNET_PARTS = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""A ResNet's parts with parameters, by their place among its children; in between are ReLU and max pooling."""
Names = tuple[tuple[str, str], ...]
"""timm's name and torchvision's; {} stands for a number or for the last part of the name, in their order."""


def to_torchvision(weights: Mapping[str, Tensor], names: Names, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's weights under torchvision's names; what has none keeps its own.

    Args:
        expected: of these shapes, where they differ in sides of 1 only: a layer scale, a convolution of 1 x 1.
    """
    return with_sides_of_one({_renamed(key, names): value for key, value in weights.items()}, expected)


def from_torchvision(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """torchvision's weights of a vision transformer or a ConvNeXt under timm's names; None: they are neither's.

    A classifier keeps its name, `heads.` or `classifier.`. `expected`: as in `to_torchvision`.
    """
    names = VISION_TRANSFORMER if "class_token" in weights else CONVNEXT
    if not ({"class_token", "features.0.0.weight"} & weights.keys() and names[-1][1].format("weight") in weights):
        return None
    back = tuple((theirs, ours) for ours, theirs in names)
    return with_sides_of_one({_renamed(key, back): value for key, value in weights.items()}, expected)


def named_by_part(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with a ResNet's parts by name, where they have numbers: `nn.Sequential(*list(resnet.children())[:-1])`.

    lightly's examples, and others, take the classifier off so; keys of other networks stay as they are.
    """
    last = ".0.conv1.weight"  # of the first block of layer4
    prefixes = [key.removesuffix(f"7{last}") for key in weights if re.search(rf"(^|\.)7{re.escape(last)}$", key)]
    numbered = [
        prefix
        for prefix in prefixes
        if {f"{prefix}0.weight", f"{prefix}1.running_mean", *(f"{prefix}{part}{last}" for part in "456")}
        <= weights.keys()
    ]
    named = {}
    for key, value in weights.items():
        for prefix in numbered:
            part, dot, rest = key.removeprefix(prefix).partition(".")
            if key.startswith(prefix) and dot and part in RESNET_PARTS:
                key = f"{prefix}{RESNET_PARTS[part]}.{rest}"
                break
        named[key] = value
    return named


def with_sides_of_one(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights, those that differ from `expected` in sides of 1 only in its shapes: a linear layer, as a 1 x 1."""
    shapes = {key: value.shape for key, value in expected.items()}
    return {
        key: value.reshape(shapes[key]) if key in shapes and _sides(value.shape) == _sides(shapes[key]) else value
        for key, value in weights.items()
    }


def _sides(shape: Sequence[int]) -> list[int]:
    return [side for side in shape if side != 1]


def _renamed(key: str, names: Iterable[tuple[str, str]]) -> str:
    for pattern, template in names:
        if match := re.fullmatch(re.escape(pattern).replace(r"\{\}", r"([^.]+)"), key):
            return template.format(*match.groups())
    return key
