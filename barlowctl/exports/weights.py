"""A module's state as the files hold it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The module's state on the CPU, row-major, floating-point numbers as float32, no two sharing memory."""
    return {
        key: (value.float() if value.is_floating_point() else value)
        .detach()
        .cpu()
        .clone(memory_format=torch.contiguous_format)
        for key, value in module.state_dict().items()
    }
