"""A detector's parameters in two groups: what decays, and the scales and shifts of norms, which do not."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from barlowctl.model.batch_norm import GlobalBatchNorm

NORMS = (_NormBase, GlobalBatchNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm)
"""detectron2's types of norms (`get_default_optimizer_params`), and ours."""


def parameter_groups(detection: nn.Module, *, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in the groups "weights" and "norms", each with `name`, `peak_lr` and `weight_decay`.

    Which it is, the type of the module says that holds the parameter, and not its dimensions: detectron2 decays the
    biases of convolutions and linear layers, which pre-training here leaves out (`train.optim.parameter_groups`).
    """
    norms = {p for module in detection.modules() if isinstance(module, NORMS) for p in module.parameters(recurse=False)}
    trainable = [p for p in detection.parameters() if p.requires_grad]
    groups = (
        ("weights", [p for p in trainable if p not in norms], weight_decay),
        ("norms", [p for p in trainable if p in norms], 0.0),
    )
    return [
        {"name": name, "params": params, "lr": lr, "peak_lr": lr, "weight_decay": decay}
        for name, params, decay in groups
        if params
    ]
