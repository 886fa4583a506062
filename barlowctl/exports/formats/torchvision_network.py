"""torchvision's networks: which one computes what a timm backbone does, how it is made, what its classifier is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torchvision
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.convnext import ConvNeXt
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from barlowctl.exports.exported import ExportedModel
from barlowctl.exports.formats.misfit import Misfit
from barlowctl.exports.torchvision_keys import CONVNEXT, VISION_TRANSFORMER, Names, to_torchvision
from barlowctl.exports.weights import state_dict
from barlowctl.model import without_data

# Models that timm and torchvision build alike, under one name and with the same keys.
SAME_KEYS = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2",
    "densenet121", "densenet161", "densenet169", "densenet201",
)  # fmt: skip
TRANSFORMERS = {
    (16, 768, 12): "vit_b_16", (32, 768, 12): "vit_b_32", (16, 1024, 24): "vit_l_16", (32, 1024, 24): "vit_l_32",
    (14, 1280, 32): "vit_h_14",
}  # fmt: skip
"""torchvision's names by side of a patch, width and depth."""
CONVNEXTS: dict[tuple[tuple[int, ...], int], str] = {
    ((3, 3, 9, 3), 96): "convnext_tiny", ((3, 3, 27, 3), 96): "convnext_small",
    ((3, 3, 27, 3), 128): "convnext_base", ((3, 3, 27, 3), 192): "convnext_large",
}  # fmt: skip
"""torchvision's names by blocks of each stage and width of the first."""
_INSTEAD = "--format timm"


@dataclass(frozen=True)
class TorchvisionNetwork:
    """A network of torchvision's.

    Attributes:
        construct: Python that makes it, with random weights.
        classifier: the attribute that is its classifier.
        names: where its keys are not timm's.
    """

    construct: str
    classifier: str
    names: Names = ()

    def state(self) -> Mapping[str, Tensor]:
        """Keys and shapes, classifier included, on the meta device."""
        with without_data():
            network = eval(self.construct, {"torchvision": torchvision})
        return cast(Mapping[str, Tensor], network.state_dict())

    def backbone_state(self) -> Mapping[str, Tensor]:
        """The same without the classifier."""
        classifier = self.classifier.replace("[", ".").replace("]", "")
        return {key: value for key, value in self.state().items() if not key.startswith(f"{classifier}.")}

    def weights(self, model: ExportedModel) -> dict[str, Tensor]:
        """The backbone's weights under this network's keys."""
        own = state_dict(model.backbone)
        if isinstance(model.backbone, VisionTransformer):
            own["pos_embed"] = _resampled(model)
        return to_torchvision(own, self.names, self.state())


def network_of(model: ExportedModel) -> TorchvisionNetwork:
    """The network of torchvision's that computes the model's features.

    Raises:
        Misfit: there is none; with a format that holds the model.
    """
    if model.architecture in SAME_KEYS:
        classifier = "classifier" if model.architecture.startswith("densenet") else "fc"
        return TorchvisionNetwork(f"torchvision.models.{model.architecture}()", classifier)
    if type(model.backbone) is VisionTransformer:
        return _transformer(model.backbone, model.preprocessing.crop)
    if isinstance(model.backbone, ConvNeXt):
        return _convnext(model.backbone)
    raise Misfit(
        f"torchvision has no model with the keys of {model.architecture!r}",
        allowed=f"{', '.join(SAME_KEYS)}, vision transformers with a class token, and ConvNeXts",
        next=_INSTEAD,
    )


def described(model: ExportedModel) -> ExportedModel:
    """The model as the file's metadata say it: with the size of images that its position embeddings are written for."""
    if type(model.backbone) is not VisionTransformer:
        return model
    return replace(model, timm_args={**model.timm_args, "img_size": model.preprocessing.crop})


def _transformer(backbone: VisionTransformer, side: int) -> TorchvisionNetwork:
    network = cast(Any, backbone)  # timm annotates these attributes more narrowly than it uses them
    if network.pos_embed is None or network.no_embed_class:
        raise Misfit(
            "torchvision's vision transformers have position embeddings for the class token and the patches, and this "
            "one has none" + (" for the class token" if network.no_embed_class else ""),
            next=_INSTEAD,
        )
    if network.global_pool != "token":
        raise Misfit(
            f"torchvision's vision transformers take the class token, and this one's features are pooled by "
            f"'{network.global_pool}'",
            allowed="pooling 'token'",
            next=_INSTEAD,
        )
    patch, width, depth = network.patch_embed.patch_size[0], network.embed_dim, len(network.blocks)
    if name := TRANSFORMERS.get((patch, width, depth)):
        construct = f"torchvision.models.{name}(image_size={side})"
    else:
        first = network.blocks[0]
        construct = (
            f"torchvision.models.VisionTransformer(image_size={side}, patch_size={patch}, num_layers={depth}, "
            f"num_heads={first.attn.num_heads}, hidden_dim={width}, mlp_dim={first.mlp.fc1.out_features})"
        )
    return TorchvisionNetwork(construct, "heads", VISION_TRANSFORMER)


def _convnext(backbone: ConvNeXt) -> TorchvisionNetwork:
    network = cast(Any, backbone)
    depths = tuple(len(stage.blocks) for stage in network.stages)
    widths = [info["num_chs"] for info in network.feature_info]
    if name := CONVNEXTS.get((depths, widths[0])):
        construct = f"torchvision.models.{name}()"
    else:
        settings = ", ".join(
            f"torchvision.models.convnext.CNBlockConfig({width}, {after}, {depth})"
            for width, after, depth in zip(widths, [*widths[1:], None], depths, strict=True)
        )
        construct = f"torchvision.models.ConvNeXt([{settings}])"
    return TorchvisionNetwork(construct, "classifier[2]", CONVNEXT)


def _resampled(model: ExportedModel) -> Tensor:
    """A transformer's position embeddings for the evaluation images, as timm resamples them."""
    network, side = cast(Any, model.backbone), model.preprocessing.crop
    patch, prefix = network.patch_embed.patch_size[0], network.num_prefix_tokens
    embeddings = network.pos_embed.detach().cpu().float()
    return resample_abs_pos_embed(
        embeddings, [side // patch] * 2, old_size=network.patch_embed.grid_size, num_prefix_tokens=prefix
    ).clone()
