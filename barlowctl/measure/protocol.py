"""What a protocol comes to for a classifier: crops, optimizer, and the network and objective that are trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from barlowctl.data.views.spec import ViewSpec
from barlowctl.measure.drop_path import with_drop_path
from barlowctl.measure.subjects import Subject
from barlowctl.methods import Classifier
from barlowctl.methods.fine_tuning import FineTuning
from barlowctl.recipe.protocol import Protocol
from barlowctl.train.groups import undecayed
from barlowctl.train.layer_decay import layer_scales, split_by_layer


def check_trainable(subject: Subject, protocol: Protocol) -> None:
    """Refuse a network that cannot be trained in a protocol, before anything is measured.

    Raises:
        UserError: see `with_drop_path` and `layer_scales`.
    """
    if protocol.frozen:
        return
    if protocol.drop_path:
        with_drop_path(subject, protocol.drop_path)
    if protocol.layer_decay < 1.0:
        layer_scales(subject.backbone, protocol.layer_decay, setting="layer_decay")


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


def classifier(protocol: Protocol, backbone: nn.Module, *, width: int, num_classes: int, seed: int) -> Classifier:
    """A classifier on a backbone; its first weights are from torch's current generator, and `seed` is of what it mixes.

    One that neither mixes nor smooths is the paper's.
    """
    if not protocol.mixes and not protocol.label_smoothing:
        return Classifier(backbone, width=width, num_classes=num_classes, frozen=protocol.frozen)
    return FineTuning(
        backbone,
        width=width,
        num_classes=num_classes,
        frozen=protocol.frozen,
        seed=seed,
        label_smoothing=protocol.label_smoothing,
        mixup=protocol.mixup,
        cutmix=protocol.cutmix,
        probability=protocol.mixup_prob,
        cutmix_share=protocol.mixup_switch_prob,
    )


def optimizer(method: Classifier, protocol: Protocol) -> torch.optim.Optimizer:
    """SGD or AdamW over the classifier and, where it is trained, the backbone.

    SGD decays every parameter, as the authors' code does. AdamW decays neither biases and norms nor what is `undecayed`
    (position embeddings, class tokens), as timm has it.

    Raises:
        UserError: a layer-wise decay of a network that does not say what its layers are.
    """
    parts: list[tuple[str, nn.Module, float]] = [("head", method.head, protocol.lr_head)]
    if not protocol.frozen:
        parts.append(("backbone", method.backbone, protocol.lr_backbone))
    if protocol.optimizer == "sgd" and protocol.layer_decay == 1.0:
        whole = [_group(name, list(module.parameters()), lr) for name, module, lr in parts]
        return torch.optim.SGD(
            whole, lr=protocol.lr_head, momentum=protocol.momentum, weight_decay=protocol.weight_decay
        )
    groups: list[dict[str, Any]] = []
    for name, module, lr in parts:
        groups += _decayed_and_not(name, module, lr, protocol)
    if not protocol.frozen and protocol.layer_decay < 1.0:
        scales = layer_scales(method.backbone, protocol.layer_decay, setting="layer_decay")
        groups = split_by_layer(groups, {p: scales[name] for name, p in method.backbone.named_parameters()})
    if protocol.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=protocol.lr_head, momentum=protocol.momentum)
    return torch.optim.AdamW(groups, lr=protocol.lr_head, betas=protocol.betas)


def _decayed_and_not(name: str, module: nn.Module, lr: float, protocol: Protocol) -> list[dict[str, Any]]:
    """A group of what weight decay is for, and one of the rest; SGD decays all."""
    excepted = undecayed(module)
    decayed: list[Tensor] = []
    others: list[Tensor] = []
    for parameter in module.parameters():
        is_other = protocol.optimizer == "adamw" and (parameter.ndim <= 1 or parameter in excepted)
        (others if is_other else decayed).append(parameter)
    groups = [
        {**_group(name, decayed, lr), "weight_decay": protocol.weight_decay},
        {**_group(f"{name}-biases", others, lr), "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _group(name: str, params: list[Any], lr: float) -> dict[str, Any]:
    return {"name": name, "params": params, "lr": lr, "peak_lr": lr}
