"""Layers of a projector whose products are computed in bf16 by the processor's tiles or vectors; see `tile_rows`."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from barlowctl.model.cpu import tile_products, tile_rows


class ProductLinear(nn.Linear):
    """A Linear without a bias, of rows `(n, c)`, in training and in bf16 on a CPU; all else is torch's own.

    The gradient of the weight is not rounded to bf16.
    """

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.Linear`."""
        if not self.training or torch.compiler.is_compiling() or not self._takes(x):
            return super().forward(x)
        return tile_rows.multiply(x.to(torch.bfloat16), self.weight)

    def _takes(self, x: Tensor) -> bool:
        autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        return autocast and x.ndim == 2 and x.device.type == "cpu" and tile_rows.takes(self.weight, x)


def choose_linears(network: nn.Module, device: torch.device) -> None:
    """Let Linears without a bias be computed so on a CPU where that is faster; names, parameters and hooks stay."""
    if device.type != "cpu":
        return
    for part in network.modules():
        if type(part) is nn.Linear and cast(Any, part).bias is None:
            part.__class__ = ProductLinear


def prepare_linears(network: nn.Module, precision: str) -> None:
    """Compile what computes the network's Linears in a precision, where it is used: see `prepare_convolutions`."""
    linears = [part for part in network.modules() if isinstance(part, ProductLinear)]
    if linears and precision == "bf16" and tile_products.is_usable():
        tile_rows.prepare()
