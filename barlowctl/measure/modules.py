"""A module that a program has in hand as what is measured: a copy of it, and how images are shown to it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from timm.data.config import resolve_data_config
from torch import nn

from barlowctl.amounts import counted
from barlowctl.assemble.showing import NORMALIZED_BY, key_of, prepared_otherwise
from barlowctl.datasets import IMAGENET
from barlowctl.errors import UserError, kind_of, one_line
from barlowctl.measure.subjects import Subject, folder_of, shown_otherwise
from barlowctl.methods import Method
from barlowctl.model import Preprocessing, unlike_timm
from barlowctl.model.modules import check_drawn, classes_of, drop_classifier, width_of

STATED = {"views.mean": "mean", "views.std": "std", "eval.crop": "size"}
"""What must be said of a module that does not say it: keys of overrides, and the arguments that are short for them."""
_UNSAID = Preprocessing(
    resize=IMAGENET.resize, crop=IMAGENET.crop, interpolation="bicubic", mean=IMAGENET.mean, std=IMAGENET.std
)
"""What overrides are put into where all of `STATED` are among them: of it the interpolation may remain."""
ALLOWED = (
    "mean and std with a number for each channel, of pixels in [0, 1], and size, the side of the input in pixels: "
    "mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], size=224"
)


def of_module(module: nn.Module, overrides: Sequence[str]) -> Subject:
    """A module as what is measured: copied as it is now, on the CPU, in float32 and evaluation mode.

    A classifier of a network of timm's or torchvision's is left out. Images are shown to it as timm's configuration of
    it says, else as `overrides` do.

    Args:
        overrides: `key=value`: `views.mean`, `views.std`, `views.interpolation`, and those of `open_subject`.

    Raises:
        UserError: it is a method, it cannot be copied, it is not said how images become its input, it does not take
            them, or it gives no vector for each.
    """
    check_network(module)
    network = copy_of(module)
    classes = classes_of(network)
    drop_classifier(network)
    config = getattr(network, "pretrained_cfg", None) or getattr(network, "default_cfg", None)
    notes = [f"its classifier of {counted(classes, 'class', 'classes')} is left out"] if classes else []
    given = {key_of(override): override for override in overrides}
    if config:
        values = resolve_data_config(pretrained_cfg=config, model=network)
        own, notes = Preprocessing.of_timm(values), [*notes, *unlike_timm(values)]
    else:
        if missing := [name for key, name in STATED.items() if key not in given]:
            raise UserError(
                f"{kind_of(module)} does not say how an image becomes its input: there is no {', '.join(missing)}",
                allowed=ALLOWED,
            )
        own = _UNSAID
        if "eval.resize" not in given:
            overrides = [*overrides, given["eval.crop"].replace("eval.crop", "eval.resize", 1)]
    stated = [override for override in overrides if key_of(override) in (*NORMALIZED_BY, "eval.resize", "eval.crop")]
    preprocessing = prepared_otherwise(own, stated, beside=NORMALIZED_BY)
    width = width_of(network, preprocessing.channels, preprocessing.crop, refuse=_refusal(module, config))
    if not hasattr(network, "reset_classifier"):  # timm's have it, and what is trained on features asks for it
        cast(Any, network).num_features = width
    name = str(config.get("architecture") or "") if isinstance(config, dict) else ""
    subject = Subject(
        name or type(module).__name__,
        "module",
        network,
        preprocessing,
        folder_of(name or type(module).__name__),
        metadata={"module": f"{type(module).__module__}.{type(module).__qualname__}"},
        notes=tuple(notes),
    )
    others = [override for override in overrides if override not in stated]
    return shown_otherwise(subject, others) if others else subject


def check_network(module: nn.Module) -> None:
    """Refuse a method, which has heads and copies beside the network from images to features.

    Raises:
        UserError: it is one.
    """
    if isinstance(module, Method):
        raise UserError(
            f"{kind_of(module)} is a method: a network with what is trained beside it",
            allowed="the network alone, from images to features: method.backbone",
        )


def copy_of(module: nn.Module) -> nn.Module:
    """A module as it is now, on the CPU, in float32 and evaluation mode: of one that is compiled, or on several
    devices, the network itself.

    Raises:
        UserError: it cannot be copied, or its layers have no parameters yet.
    """
    inner: Any = module
    if isinstance(inner, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inner = inner.module
    inner = getattr(inner, "_orig_mod", inner)
    check_drawn(inner)
    try:
        with torch.no_grad():
            own: nn.Module = copy.deepcopy(inner).cpu().float()
    except Exception as error:  # a module of somebody's own may refuse in any way
        raise UserError(
            f"{kind_of(module)} cannot be copied: {one_line(error)}",
            allowed="a module that copy.deepcopy copies: of a LightningModule the backbone, module.backbone",
        ) from error
    return own.requires_grad_(True).eval()


def _refusal(module: nn.Module, config: Any) -> Any:
    whose = "timm's configuration of it says so, and mean, std and size say otherwise" if config else "they say"
    return lambda what: UserError(f"{kind_of(module)} does not take {what}", allowed=f"{ALLOWED} ({whose})")
