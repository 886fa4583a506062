"""The groups of parameters that an optimizer treats alike: what decays and what does not, and at which rates."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def parameter_groups(
    module: nn.Module,
    *,
    lr: float,
    lr_biases: float,
    weight_decay: float,
    exclude_biases: bool = True,
    fixed: Sequence[nn.Module] = (),
) -> list[dict[str, Any]]:
    """Trainable parameters in two groups, as in the paper: weights, then biases and norm parameters.

    A parameter with at most one dimension is a bias or a norm parameter (the authors' rule, `ndim == 1`; scalars and
    layer scale are counted in), and so is what `undecayed` finds (position embeddings, class tokens): `lr_biases`, and
    with `exclude_biases` no weight decay and no adaptation. Each group has a `name` ("weights", "biases") and a
    `peak_lr`, and is left out when empty. Order within a group is that of `module.parameters()`. Parameters of the
    modules in `fixed`, whose rate stays at its peak, come in two groups of their own ("weights-fixed", "biases-fixed",
    with `scheduled` False).
    """
    apart = {p for part in fixed for p in part.parameters()}
    unregularized = undecayed(module)
    groups: list[dict[str, Any]] = []
    for scheduled, suffix in ((True, ""), (False, "-fixed")):
        trainable = [p for p in module.parameters() if p.requires_grad and (p in apart) is not scheduled]
        weights = [p for p in trainable if p.ndim > 1 and p not in unregularized]
        biases = [p for p in trainable if p.ndim <= 1 or p in unregularized]
        subgroups = []
        if weights:
            subgroups.append(_group(f"weights{suffix}", weights, lr, weight_decay, adapt=True))
        if biases:
            decay = 0.0 if exclude_biases else weight_decay
            subgroups.append(_group(f"biases{suffix}", biases, lr_biases, decay, adapt=not exclude_biases))
        groups += subgroups if scheduled else [{**group, "scheduled": False} for group in subgroups]
    return groups


def undecayed(module: nn.Module) -> set[Tensor]:
    """Parameters that networks within `module` except from weight decay, whatever their dimensions.

    timm's networks name them in `no_weight_decay`: position embeddings, class and register tokens, tables of relative
    positions. They are added to tokens, and do not multiply them, as a bias is.
    """
    excepted = set[Tensor]()
    for part in module.modules():
        if callable(names := getattr(part, "no_weight_decay", None)):
            patterns = list(names())
            excepted |= {
                parameter
                for name, parameter in part.named_parameters()
                if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
            }
    return excepted


def _group(name: str, params: list[nn.Parameter], lr: float, decay: float, *, adapt: bool) -> dict[str, Any]:
    return {"name": name, "params": params, "lr": lr, "peak_lr": lr, "weight_decay": decay, "adapt": adapt}


def group_as_saved(optimizer: torch.optim.Optimizer, module: nn.Module, saved: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a checkpoint's groups are of before `undecayed` was asked; then the optimizer's become those.

    Position embeddings and class tokens were weights until November 2026: a run that began with them so goes on so.

    Args:
        saved: `param_groups` of the checkpoint.
    """
    if [len(group["params"]) for group in saved] == [len(group["params"]) for group in optimizer.param_groups]:
        return False
    order = {parameter: number for number, parameter in enumerate(module.parameters())}
    groups = {group["name"]: group for group in optimizer.param_groups}
    for suffix in ("", "-fixed"):
        if (weights := groups.get(f"weights{suffix}")) and (biases := groups.get(f"biases{suffix}")):
            embeddings = [p for p in biases["params"] if p.ndim > 1]
            weights["params"] = sorted([*weights["params"], *embeddings], key=order.__getitem__)
            biases["params"] = [p for p in biases["params"] if p.ndim <= 1]
    return True
