"""Heads of the compared methods: their layers, where biases are, and a norm that does not shift."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from barlowctl.errors import UserError
from barlowctl.model import build_mlp


def layers(module: nn.Module) -> list[str]:
    return [
        f"{part.in_features}>{part.out_features}{'' if part.bias is None else '+'}"
        if isinstance(part, nn.Linear)
        else type(part).__name__
        for part in module.children()
    ]


def test_where_norms_and_biases_are() -> None:
    simclr = build_mlp(8, (6, 4), batch_norm=True, hidden_bias=False, last_bias=False, last_norm="scale")
    assert layers(simclr) == ["8>6", "BatchNorm1d", "ReLU", "6>4", "BatchNorm1d"]
    byol = build_mlp(8, (6, 4), batch_norm=True, hidden_bias=True, last_bias=False)
    assert layers(byol) == ["8>6+", "BatchNorm1d", "ReLU", "6>4"]
    moco_v2 = build_mlp(8, (6, 4), batch_norm=False, hidden_bias=True, last_bias=True)
    assert layers(moco_v2) == ["8>6+", "ReLU", "6>4+"]
    moco = build_mlp(8, (4,), batch_norm=False, hidden_bias=True, last_bias=True)
    assert layers(moco) == ["8>4+"]


def test_a_norm_with_a_scale_alone_and_one_without_either() -> None:
    scaled = build_mlp(8, (4,), batch_norm=False, hidden_bias=False, last_bias=False, last_norm="scale")
    trained = {name for name, p in scaled.named_parameters() if p.requires_grad}
    assert trained == {"0.weight", "1.weight"}
    out = scaled(5.0 + torch.randn(7, 8))
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(4), rtol=0, atol=1e-5)
    plain = build_mlp(8, (4,), batch_norm=False, hidden_bias=False, last_bias=False, last_norm="plain")
    assert {name for name, _ in plain.named_parameters()} == {"0.weight"}


def test_widths_that_cannot_be() -> None:
    with pytest.raises(UserError, match="cannot be built"):
        build_mlp(8, (), batch_norm=False, hidden_bias=True, last_bias=True)
