"""PIRL's head of patches: which layers it has."""

from __future__ import annotations

import torch
from torch import nn

from barlowctl.model import build_patch_head


def layers(module: nn.Module) -> list[str]:
    return [
        f"Linear {m.in_features} {m.out_features} {m.bias is not None}" if isinstance(m, nn.Linear) else "ReLU"
        for m in module.modules()
        if isinstance(m, nn.Linear | nn.ReLU | nn.BatchNorm1d)
    ]


def test_one_layer_for_each_patch_and_one_for_all() -> None:
    head = build_patch_head(2048, (128,), patches=9)
    assert layers(head) == ["Linear 2048 128 True", "Linear 1152 128 True"]
    assert head(torch.randn(3, 9, 2048)).shape == (3, 128)


def test_the_mlp_has_a_relu_behind_both_layers_of_a_patch() -> None:
    head = build_patch_head(64, (64, 16), patches=4)
    assert layers(head) == ["Linear 64 64 True", "ReLU", "Linear 64 16 True", "ReLU", "Linear 64 16 True"]
