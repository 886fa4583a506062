"""What a protocol comes to for a classifier: its crops, its schedule and its optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from barlowctl.data.views.spec import ViewSpec
from barlowctl.methods import Classifier
from barlowctl.recipe.protocol import Protocol
from barlowctl.train.schedule import epoch_cosine, epoch_drops


def training_view(protocol: Protocol, size: int) -> ViewSpec:
    """RandomResizedCrop and flip, and nothing else."""
    return ViewSpec(
        size=size,
        interpolation=protocol.interpolation,
        crop_scale=protocol.crop_scale,
        flip=protocol.flip,
        jitter=0.0,
        grayscale=0.0,
        blur=0.0,
        solarize=0.0,
    )


def schedule(protocol: Protocol, steps_per_epoch: int) -> Callable[[int], float]:
    """Step -> share of the learning rates, which is constant within an epoch."""
    if protocol.schedule == "cosine":
        return lambda step: epoch_cosine(step // steps_per_epoch, epochs=protocol.epochs)
    return lambda step: epoch_drops(step // steps_per_epoch, drops=protocol.drops, factor=protocol.drop_factor)


def optimizer(method: Classifier, protocol: Protocol) -> torch.optim.SGD:
    """SGD over the classifier and, where it is trained, the backbone; weight decay on everything, as the authors'."""
    groups: list[dict[str, Any]] = [_group("head", method.head, protocol.lr_head)]
    if not protocol.frozen:
        groups.append(_group("backbone", method.backbone, protocol.lr_backbone))
    return torch.optim.SGD(groups, lr=protocol.lr_head, momentum=protocol.momentum, weight_decay=protocol.weight_decay)


def _group(name: str, module: nn.Module, lr: float) -> dict[str, Any]:
    return {"name": name, "params": list(module.parameters()), "lr": lr, "peak_lr": lr}
