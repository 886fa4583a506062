"""Attention as it is fastest on a device: torch's fused kernel, or the formula itself."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

FEW_PATCHES = 64
"""Of an image: up to here the CPU's fused kernel was measured to be the slower one, in bf16 (docs/experiments.md)."""


def choose_attention(network: nn.Module, device: torch.device) -> None:
    """Let timm's transformers with few patches compute attention as products of matrices on a CPU.

    torch's fused kernel saves memory, which a few tokens need little of, and its backward pass on a CPU takes ten times
    as long as its forward pass. Results are equal up to rounding. On a GPU all stays as timm has it.
    """
    if device.type != "cpu":
        return
    for transformer in network.modules():
        patches = getattr(getattr(transformer, "patch_embed", None), "num_patches", None)
        if isinstance(patches, int) and patches <= FEW_PATCHES:
            for part in transformer.modules():
                if isinstance(getattr(part, "fused_attn", None), bool):
                    cast(Any, part).fused_attn = False
