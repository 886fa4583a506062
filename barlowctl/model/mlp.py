"""Fully connected heads as the compared methods publish them: where biases and batch norms are differs between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from barlowctl.model.projector import check_widths

LastNorm = Literal["none", "scale", "plain"]


def build_mlp(
    in_features: int,
    widths: Sequence[int],
    *,
    batch_norm: bool,
    hidden_bias: bool,
    last_bias: bool,
    last_norm: LastNorm = "none",
) -> nn.Sequential:
    """Linear (- batch norm) - ReLU for every width but the last, then Linear (- batch norm); (N, in) -> (N, last).

    Args:
        in_features: width of what comes in. widths: of the layers.
        batch_norm: behind every hidden Linear. hidden_bias, last_bias: whether these Linears have a bias.
        last_norm: batch norm behind the last Linear: "none"; "scale": with a scale and without a shift, which is there
            as a constant 0; "plain": without either.

    Raises:
        UserError: widths that cannot be.
    """
    check_widths(in_features, widths)
    layers: list[nn.Module] = []
    before = in_features
    for after in widths[:-1]:
        layers.append(nn.Linear(before, after, bias=hidden_bias))
        if batch_norm:
            layers.append(nn.BatchNorm1d(after))
        layers.append(nn.ReLU(inplace=True))
        before = after
    layers.append(nn.Linear(before, widths[-1], bias=last_bias))
    if last_norm != "none":
        norm = nn.BatchNorm1d(widths[-1], affine=last_norm == "scale")
        if norm.bias is not None:
            norm.bias.requires_grad_(False)
        layers.append(norm)
    return nn.Sequential(*layers)
