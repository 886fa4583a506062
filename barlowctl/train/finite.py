"""Which tensors of a state hold what is no number."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def not_finite(tensors: Mapping[str, Tensor]) -> set[str]:
    """Names of floating-point tensors that hold infinity or NaN: read from each device in one go."""
    by_device: dict[torch.device, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            by_device.setdefault(tensor.device, {})[name] = tensor.detach().sum(dtype=torch.float64)
    return {
        name
        for sums in by_device.values()
        for name, finite in zip(sums, torch.stack(list(sums.values())).isfinite().tolist(), strict=True)
        if not finite
    }
