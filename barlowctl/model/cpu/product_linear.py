"""Linears whose products are computed in bf16 by the processor's tiles or vectors; see `tile_rows`."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from barlowctl.model.cpu import tile_products, tile_rows


class ProductLinear(nn.Linear):
    """A Linear of rows `(..., c)`, in training and in bf16 on a CPU; all else is torch's own.

    The gradients of the weight and the bias are not rounded to bf16.
    """

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.Linear`."""
        if not self.training or torch.compiler.is_compiling() or not self._takes(x):
            return super().forward(x)
        bias = cast("Tensor | None", self.bias)
        out = tile_rows.multiply(x.to(torch.bfloat16).view(-1, x.shape[-1]), self.weight, bias)
        return out.view(*x.shape[:-1], -1)

    def _takes(self, x: Tensor) -> bool:
        autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        rows = x.ndim >= 2 and x.is_contiguous() and x.device.type == "cpu"
        return autocast and rows and tile_rows.takes(self.weight, x) and self._has_bias_taken()

    def _has_bias_taken(self) -> bool:
        bias = cast("Tensor | None", self.bias)
        return bias is None or bias.dtype == torch.float32


def choose_linears(network: nn.Module, device: torch.device) -> None:
    """Let Linears be computed so on a CPU where that is faster; names, parameters and hooks stay."""
    if device.type != "cpu":
        return
    for part in network.modules():
        if type(part) is nn.Linear:
            part.__class__ = ProductLinear


def prepare_linears(network: nn.Module, precision: str) -> None:
    """Compile what computes the network's Linears in a precision, where it is used: see `prepare_convolutions`."""
    linears = [part for part in network.modules() if isinstance(part, ProductLinear)]
    if linears and precision == "bf16" and tile_products.is_usable():
        tile_rows.prepare()
