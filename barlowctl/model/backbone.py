"""The backbone: any timm model without its classifier, with a stem for small images if asked for.

A stem other than timm's own is surgery on timm's `ResNet` class (`conv1` replaced, `maxpool` removed).
Its width is that of the batch norm behind it: 64, or 2 x stem_width with stem_type="deep", so
`stem_type="deep", stem_width=8` with stem "stride2" is a single 5x5 convolution of 16 channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import timm
import torch
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from timm.models.resnet import ResNet
from torch import Tensor, nn

from barlowctl.errors import UserError, kind_of
from barlowctl.model.modules import check_drawn
from barlowctl.model.registered import Unpooled, check_features, check_name, own_function, reason_of, refused_by_own
from barlowctl.model.stand_ins import Lookups, call_with, own_tensors
from barlowctl.modes import in_mode
from barlowctl.own_code import exits_are_errors


class StemShape(NamedTuple):
    """A single convolution that stands where timm's 7x7 convolution and max-pool stood."""

    kernel: int
    stride: int
    padding: int


STEMS: dict[str, StemShape | None] = {
    "default": None,
    "cifar": StemShape(kernel=3, stride=1, padding=1),  # SimCLR (Chen et al. 2020), appendix B.9
    "stride2": StemShape(kernel=5, stride=2, padding=2),
}
# Arguments of timm.create_model that are decided elsewhere: giving them twice would be ambiguous.
RESERVED_ARGS = (
    "cache_dir", "checkpoint_path", "features_only", "in_chans", "model_name", "num_classes",
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "stem", "zero_init_last",
)  # fmt: skip
WITH_ANTI_ALIASING = ("resnetblur18", "resnetblur50", "resnetaa50")
"""Models that are built with what `aa_layer` sets, a class, in ResNets."""
# What timm's constructors raise on arguments that they cannot use.
_CONSTRUCTION_ERRORS = (
    TypeError,
    ValueError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    KeyError,
    IndexError,
    RuntimeError,
)


class WrongImages(UserError):
    """A network does not take images of a size, or of so many channels."""


def build_backbone(
    name: str,
    *,
    in_chans: int,
    stem: str = "default",
    zero_init_last: bool = True,
    any_size: bool = False,
    **timm_args: Any,
) -> nn.Module:
    """A randomly initialised timm model that maps (N, in_chans, H, W) to features (N, width).

    Draws from torch's CPU generator. The width of the features is `feature_width(backbone)`; it equals
    `backbone.num_features` except in the few families with a wider pre-classifier layer.

    Args:
        name: a timm model name, without a weights tag.
        in_chans: channels of the images.
        stem: "default", or for timm's ResNet class "cifar" (3x3 stride 1, no max-pool) or
            "stride2" (5x5 stride 2, no max-pool).
        zero_init_last: the last norm of each residual branch starts at zero, in the families where timm
            knows how; `zero_initialized_norms` tells where it did.
        any_size: images of any size that patches divide, in the families whose position embeddings timm can resample
            (`dynamic_img_size`); `takes_any_size` tells whether it is one.
        timm_args: arguments of `timm.create_model`, for example img_size for a ViT.

    Raises:
        UserError: unknown name or stem, or arguments that timm refuses.
    """
    if stem not in STEMS:
        raise UserError(f"unknown stem {stem!r}", allowed=", ".join(STEMS))
    check_backbone_args(timm_args)
    check_name(name)
    optional = {"zero_init_last": zero_init_last, **({"dynamic_img_size": True} if any_size else {})}
    backbone = _create(name, in_chans, timm_args, optional)
    shape = STEMS[stem]
    if shape is not None:
        _replace_stem(backbone, name, stem, shape, in_chans)
    return backbone


def check_backbone_args(timm_args: Mapping[str, Any]) -> None:
    """Refuse arguments of `timm.create_model` that are set elsewhere (`RESERVED_ARGS`)."""
    for key in timm_args:
        if key in RESERVED_ARGS:
            raise UserError(
                f"model.backbone_args has {key!r}, which barlowctl sets itself",
                allowed="other arguments of timm.create_model, such as drop_path_rate or img_size",
                next="remove it: channels, stem, zero_init_last and weights have their own keys",
            )


def takes_any_size(backbone: nn.Module) -> bool:
    """Whether the position embeddings are resampled for every size of images (timm's `dynamic_img_size`)."""
    return bool(getattr(backbone, "dynamic_img_size", False))


def _create(name: str, in_chans: int, timm_args: Mapping[str, Any], optional: Mapping[str, Any]) -> nn.Module:
    """The model, built with those of the `optional` arguments that its family has."""
    arguments: dict[str, Any] = {"num_classes": 0, "in_chans": in_chans, **optional, **timm_args}
    try:
        while True:
            try:
                with exits_are_errors():
                    network: nn.Module = timm.create_model(name, pretrained=False, **arguments)
                check_drawn(network)
                return network
            except TypeError as error:
                unknown = [key for key in optional if key in arguments and f"'{key}'" in str(error)]
                if not unknown:
                    raise
                del arguments[unknown[0]]
    except _CONSTRUCTION_ERRORS as error:
        if own_function(name) is not None:
            raise refused_by_own(name, error) from error
        arguments_text = ", ".join(f"{key}={value!r}" for key, value in timm_args.items()) or "no arguments"
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        takes_class = "arg 1 must be a class" in str(error)  # and no file that timm reads has one
        if takes_class:
            lines = ["one of them is a Python class for timm, which a recipe cannot hold"]
        elif isinstance(error, KeyError):  # which says the key alone
            lines = [f"timm has nothing by the name of {error}"]
        raise UserError(
            f"timm cannot build {name!r} with {arguments_text}: {lines[0] if lines else type(error).__name__}",
            allowed=f"without it, or of {', '.join(WITH_ANTI_ALIASING)}" if takes_class else None,
            next="correct model.backbone_args",
        ) from error


def _replace_stem(backbone: nn.Module, name: str, stem: str, shape: StemShape, in_chans: int) -> None:
    if not isinstance(backbone, ResNet):
        raise UserError(
            f"stem {stem!r} is not available for {name!r}: timm builds it as {type(backbone).__name__}",
            allowed="models of timm's ResNet class, such as resnet18, resnet50, resnext50_32x4d, "
            "wide_resnet50_2 or seresnet50; what a transformer or a ConvNeXt begins with is model.patch_size",
            next="--set model.stem=default",
        )
    resnet = cast(Any, backbone)  # timm annotates these attributes more narrowly than it uses them
    width = int(resnet.bn1.num_features)
    conv = nn.Conv2d(in_chans, width, shape.kernel, stride=shape.stride, padding=shape.padding, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    resnet.conv1 = conv
    resnet.maxpool = nn.Identity()
    resnet.feature_info[0]["reduction"] = shape.stride
    for stage in resnet.feature_info[1:]:
        stage["reduction"] = stage["reduction"] * shape.stride // 4


def feature_width(backbone: nn.Module) -> int:
    """Width of the features that `backbone(images)` returns.

    timm's `num_features` is the width before a pre-classifier layer; `head_hidden_size` is behind it. Before timm
    1.0.31 neither counts that a pooling may give two vectors in one (catavgmax).
    """
    model = cast(Any, backbone)
    if not hasattr(model, "num_features"):
        raise UserError(
            f"{type(backbone).__name__} does not say how wide its features are: it has no num_features",
            allowed="a network (N, C, H, W) to (N, num_features), with that number as an attribute",
            next="in your function, before it returns the network: network.num_features = WIDTH",
        )
    width = int(getattr(model, "head_hidden_size", None) or model.num_features)
    pools = getattr(model, "global_pool", None), getattr(getattr(model, "head", None), "global_pool", None)
    vectors = next((int(pool.feat_mult()) for pool in pools if isinstance(pool, SelectAdaptivePool2d)), 1)
    return width * vectors if width == model.num_features else width


def check_width(backbone: nn.Module, width: int) -> None:
    """Refuse a network that says of its features another width than they have.

    Raises:
        UserError: it does.
    """
    if feature_width(backbone) != width:
        raise UserError(
            f"{type(backbone).__name__} gives vectors of {width:,} numbers, and its num_features is "
            f"{feature_width(backbone):,}",
            next=f"in your function, before it returns the network: network.num_features = {width}",
        )


def zero_initialized_norms(backbone: nn.Module) -> tuple[str, ...]:
    """Names of the layers of a fresh backbone whose one-dimensional scale is zero everywhere."""
    return tuple(
        name.removesuffix(".weight")
        for name, parameter in backbone.named_parameters()
        if parameter.ndim == 1 and name.endswith(".weight") and not bool(parameter.detach().any())
    )


def check_input(backbone: nn.Module, size: int, *, in_chans: int) -> int:
    """Whether the backbone takes square images of `size` pixels; returns the width of its features.

    Runs on the meta device, where nothing is computed; a model that cannot run there gets one real image.
    The backbone's weights, statistics and modes are left as they were.

    Raises:
        UserError: it does not take them, or it does not return one vector per image.
    """
    image = torch.zeros(1, in_chans, size, size)
    with in_mode(backbone, training=False), torch.no_grad():
        try:
            with Lookups() as lookups:
                features = call_with(backbone, lambda tensor: tensor.detach().to("meta"), [image.to("meta")])
            if lookups.count:  # on the meta device no index is out of range
                features = _of_an_image(backbone, image)
        except (*_CONSTRUCTION_ERRORS, SystemExit):
            try:
                features = _of_an_image(backbone, image)
            except _CONSTRUCTION_ERRORS as error:
                raise _size_error(backbone, size, reason_of(error)) from error
    if not hasattr(backbone, "pretrained_cfg"):  # timm notes it of its own
        check_features(features, type(backbone).__name__)
    elif not isinstance(features, Tensor) or features.ndim != 2 or features.shape[0] != 1:
        shape = f"a tensor of shape {tuple(features.shape)}" if isinstance(features, Tensor) else kind_of(features)
        raise Unpooled(
            f"{type(backbone).__name__} returns {shape} per image, not one vector: barlowctl needs pooled features",
            next="remove global_pool from model.backbone_args",
        )
    return int(features.shape[1])


def _of_an_image(backbone: nn.Module, image: Tensor) -> Any:
    """What the backbone makes of an image on the device of its weights."""
    device = next((tensor.device for tensor in own_tensors(backbone).values()), torch.device("cpu"))
    with exits_are_errors():
        return backbone(image.to(device))


def patch_side(backbone: nn.Module) -> int | None:
    """Side in pixels of the patches that a transformer begins with; None: the network has none."""
    side = getattr(getattr(backbone, "patch_embed", None), "patch_size", None)
    side = side[0] if isinstance(side, tuple) else side
    return side if isinstance(side, int) else None


def built_for(backbone: nn.Module) -> int | None:
    """Side in pixels of the square images that the weights' shapes are for; None: no shape depends on it.

    There may be others that it takes: a transformer that resamples its position embeddings, a CrossViT that resizes
    its images.
    """
    config: dict[str, Any] = getattr(backbone, "pretrained_cfg", {})
    if not (config.get("fixed_input_size") or takes_any_size(backbone)):
        return None
    sides = (getattr(part, "img_size", None) for part in (getattr(backbone, "patch_embed", None), backbone))
    built = next((side for side in sides if side is not None), config["input_size"][1:])
    height, width = (built, built) if isinstance(built, int) else built  # EfficientViT of Microsoft notes a number
    return int(height) if height == width else None


def _size_error(backbone: nn.Module, size: int, reason: str) -> WrongImages:
    if not hasattr(backbone, "pretrained_cfg"):
        return WrongImages(
            f"{type(backbone).__name__} fails on images of {size}x{size}: {reason}",
            next="mend its forward, or change views.size and eval.crop",
        )
    patch, made_for = patch_side(backbone), getattr(getattr(backbone, "patch_embed", None), "img_size", None)
    advice = f"give it its size in model.backbone_args (img_size = {size}), or change views.size and eval.crop"
    if patch is not None and size % patch:
        advice = f"change views.size and eval.crop to multiples of {patch}"
    elif made_for is not None:
        advice = f"--set model.image_size={size}"
    return WrongImages(f"{type(backbone).__name__} does not take images of {size}x{size}: {reason}", next=advice)
