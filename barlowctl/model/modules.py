"""Modules that a program has in hand: where their classifier is, and how many features they give of an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from barlowctl.amounts import counted
from barlowctl.errors import UserError
from barlowctl.model.registered import reason_of
from barlowctl.model.stand_ins import own_tensors
from barlowctl.modes import in_mode
from barlowctl.own_code import exits_are_errors

_ENDS = ("fc", "classifier", "heads", "head")
"""What torchvision calls the part of its networks that ends in the classifier."""


def classes_of(module: nn.Module) -> int:
    """How many classes the classifier has in which a network of timm's or torchvision's ends; 0: it ends in none."""
    classes = getattr(module, "num_classes", 0)
    if hasattr(module, "reset_classifier"):
        return classes if isinstance(classes, int) else 0
    place = _classifier_of_torchvision(module)
    if not place:
        return 0
    layer = cast(Any, module.get_submodule(place))
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)


def drop_classifier(module: nn.Module) -> None:
    """Let a network of timm's or torchvision's end in the features before its classifier."""
    if not classes_of(module):
        return
    if hasattr(module, "reset_classifier"):
        cast(Any, module).reset_classifier(0)
        return
    parent, _, name = _classifier_of_torchvision(module).rpartition(".")
    setattr(module.get_submodule(parent), name, nn.Identity())


def how_to_drop(module: nn.Module) -> str:
    """The line of Python that does it."""
    if hasattr(module, "reset_classifier"):
        return "timm.create_model(..., num_classes=0), or backbone.reset_classifier(0)"
    parent, _, name = _classifier_of_torchvision(module).rpartition(".")
    part = f"backbone.{parent}" if parent else "backbone"
    return f"{part}[{name}] = torch.nn.Identity()" if name.isdecimal() else f"{part}.{name} = torch.nn.Identity()"


def _classifier_of_torchvision(module: nn.Module) -> str:
    """The name of a network of torchvision's last layer (of SqueezeNet a convolution); "": it is none of its."""
    if not type(module).__module__.startswith("torchvision.models."):
        return ""
    layers = [
        name
        for name, part in module.named_modules()
        if name.partition(".")[0] in _ENDS and isinstance(part, nn.Linear | nn.Conv2d)
    ]
    return layers[-1] if layers else ""


def check_drawn(module: nn.Module) -> None:
    """Refuse a module whose parameters have no shape yet: it cannot be copied, counted or given weights.

    Raises:
        UserError: torch's lazy modules before their first batch.
    """
    lazy = [name for name, tensor in own_tensors(module).items() if is_lazy(tensor)]
    if lazy:
        raise UserError(
            f"{type(module).__name__} has parameters without a shape: {', '.join(lazy[:3])}",
            allowed="layers that say their widths; or one call with images, which gives torch's lazy layers theirs: "
            "network(torch.zeros(2, CHANNELS, SIDE, SIDE))",
        )


def width_of(module: nn.Module, channels: int, side: int, *, refuse: Callable[[str], UserError]) -> int:
    """How many features a module gives of an image; it stays as it is.

    Args:
        refuse: of the images that it does not take, an error: why not.

    Raises:
        UserError: it does not take such images, or gives no vector for each.
    """
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    images = torch.zeros(2, channels, side, side, device=device)
    try:
        with exits_are_errors(), torch.no_grad(), in_mode(module, training=False):
            features = module(images)
    except Exception as error:  # whatever a module of somebody's own raises
        raise refuse(f"images of shape {tuple(images.shape)}: {reason_of(error)}") from error
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(images):
        what = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise UserError(
            f"the backbone returned {what} for {counted(len(images), 'image')}",
            allowed="one feature vector per image, (N, F): a module whose forward returns that, e.g. "
            "outputs.pooler_output.flatten(1) of a model of transformers",
        )
    return features.shape[1]
