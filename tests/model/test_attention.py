"""Attention on a CPU: the formula for a few patches, torch's fused kernel for many."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from barlowctl.model import build_backbone
from barlowctl.model.attention import choose_attention

SMALL: dict[str, Any] = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 4}


def fused(network: nn.Module) -> set[bool]:
    return {part.fused_attn for part in network.modules() if hasattr(part, "fused_attn")}


@pytest.mark.parametrize(
    ("side", "device", "expected"), [(32, "cpu", {False}), (36, "cpu", {True}), (32, "cuda", {True})]
)
def test_a_few_patches_on_a_cpu_are_not_fused(side: int, device: str, expected: set[bool]) -> None:
    network = build_backbone("vit_tiny_patch16_224", in_chans=1, img_size=side, **SMALL)
    choose_attention(network, torch.device(device))
    assert fused(network) == expected


def test_features_and_gradients_stay_up_to_rounding() -> None:
    torch.manual_seed(0)
    network = build_backbone("vit_tiny_patch16_224", in_chans=1, img_size=16, **SMALL).double()
    images = torch.rand(3, 1, 16, 16, dtype=torch.float64)

    def gradient() -> list[torch.Tensor]:
        network.zero_grad()
        network(images).square().sum().backward()
        return [p.grad.clone() for p in network.parameters() if p.grad is not None]

    before = gradient()
    choose_attention(network, torch.device("cpu"))
    for expected, actual in zip(before, gradient(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)
