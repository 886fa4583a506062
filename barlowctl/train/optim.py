"""Optimizers by name: LARS as in the authors' code, Muon, and torch's own SGD and AdamW, over the same groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from barlowctl.errors import UserError, did_you_mean
from barlowctl.train.groups import parameter_groups
from barlowctl.train.lars import LARS, LarsVariant
from barlowctl.train.layer_decay import split_by_layer
from barlowctl.train.muon import Muon

OPTIMIZERS = ("lars", "sgd", "adamw", "muon")


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every scheduled group's learning rate becomes `factor` times its peak (see `schedule.warmup_cosine`).

    A rate that is a tensor is filled: a device takes it up in its turn, and a captured step reads the new value.
    """
    for group in optimizer.param_groups:
        rate = group["peak_lr"] * (factor if group.get("scheduled", True) else 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> dict[str, float]:
    """What `set_learning_rates` sets, by the groups' names, without the shares of them that layers have.

    Nothing is read from a device.
    """
    return {
        group["name"]: group["peak_lr"] * (factor if group.get("scheduled", True) else 1.0)
        for group in optimizer.param_groups
        if group.get("lr_scale", 1.0) == 1.0
    }


def trained_groups(
    module: nn.Module,
    *,
    lr: float,
    lr_biases: float,
    weight_decay: float,
    exclude_biases: bool = True,
    fixed: Sequence[nn.Module] = (),
    lr_scales: Mapping[Tensor, float] | None = None,
) -> list[dict[str, Any]]:
    """`parameter_groups`, with `lr_scales` split by layer; never none.

    Raises:
        UserError: nothing is trained.
    """
    groups = parameter_groups(
        module,
        lr=lr,
        lr_biases=lr_biases,
        weight_decay=weight_decay,
        exclude_biases=exclude_biases,
        fixed=fixed,
    )
    if lr_scales:
        groups = split_by_layer(groups, lr_scales)
    if not groups:
        raise UserError("the model has no trainable parameters", next="check which layers are frozen")
    return groups


def build_optimizer(
    module: nn.Module,
    name: Literal["lars", "sgd", "adamw", "muon"] | str,
    *,
    lr: float,
    lr_biases: float,
    weight_decay: float,
    momentum: float = 0.9,
    betas: tuple[float, float] = (0.9, 0.999),
    eta: float = 0.001,
    clip_trust_ratio: bool = False,
    lars_variant: LarsVariant = "barlow-twins",
    nesterov: bool = False,
    exclude_biases: bool = True,
    fixed: Sequence[nn.Module] = (),
    lr_scales: Mapping[Tensor, float] | None = None,
) -> torch.optim.Optimizer:
    """LARS, Muon (`momentum`, `betas`), torch's SGD (`momentum`) or AdamW (`betas`) over `parameter_groups(module)`.

    `lr` and `lr_biases` are the peaks, already multiplied by batch / 256. `nesterov`: of SGD. `exclude_biases`,
    `fixed`: see `parameter_groups`. `lr_scales`: see `split_by_layer`.

    Raises:
        UserError: no such optimizer, or one that cannot have these settings.
    """
    if name not in OPTIMIZERS:
        raise UserError(
            f"unknown optimizer '{name}'{did_you_mean(name, OPTIMIZERS)}",
            allowed=", ".join(OPTIMIZERS),
            next="set optimizer.name to one of them",
        )
    groups = trained_groups(
        module,
        lr=lr,
        lr_biases=lr_biases,
        weight_decay=weight_decay,
        exclude_biases=exclude_biases,
        fixed=fixed,
        lr_scales=lr_scales,
    )
    if name == "lars":
        return LARS(groups, lr=lr, momentum=momentum, eta=eta, clip=clip_trust_ratio, variant=lars_variant)
    if name == "muon":
        for group in groups:  # biases are Adam's, with or without decay
            group["adapt"] = group["name"].startswith("weights")
        return Muon(groups, lr=lr, momentum=momentum, betas=betas)
    for group in groups:
        del group["adapt"]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, lr=lr, betas=betas)
