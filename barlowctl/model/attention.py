"""Attention as it is fastest on a device: a kernel of ours, torch's fused one, or the formula itself."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from barlowctl.model.cpu.fused_attention import FUSED, STEP, is_usable

FEW_PATCHES = 64
"""Of an image: up to here the CPU's fused kernel was measured to be the slower one, in bf16 (docs/experiments.md)."""


def choose_attention(network: nn.Module, device: torch.device) -> None:
    """Let timm's transformers compute attention as it is fastest on a CPU. Names, parameters and hooks stay.

    That is by a kernel of ours in bf16, where there is one for the processor and the heads; else, of few patches, as
    products of matrices. torch's fused kernel saves memory, which a few tokens need little of, and its backward pass
    on a CPU takes ten times as long as its forward pass. Results are equal up to rounding. On a GPU all stays as timm
    has it.
    """
    if device.type != "cpu":
        return
    for transformer in network.modules():
        patches = getattr(getattr(transformer, "patch_embed", None), "num_patches", None)
        if isinstance(patches, int):
            for part in transformer.modules():
                if isinstance(getattr(part, "fused_attn", None), bool):
                    _choose(cast(Any, part), patches)


def _choose(attention: Any, patches: int) -> None:
    fused = FUSED.get(type(attention))
    if fused is not None and attention.head_dim % STEP == 0 and is_usable():
        attention.__class__ = fused
    elif patches <= FEW_PATCHES:
        attention.fused_attn = False
