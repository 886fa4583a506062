"""Layer norms in front of products in bf16 that a CPU computes in one pass each way, with results in bf16.

torch's, of float32, are float32, which the product behind them rounds in another pass over memory, and their gradient
is widened in one. What was measured is in docs/experiments.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from timm.layers.mlp import GluMlp, Mlp, SwiGLU
from timm.layers.norm import LayerNorm, LayerNorm2d
from timm.models.convnext import ConvNeXtBlock
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from barlowctl.kernels import thread_team
from barlowctl.kernels.number_formats import LIKE
from barlowctl.model.cpu.fused_attention import FUSED
from barlowctl.modes import is_watched
from barlowctl.own_gradients import once_differentiable

FEWEST, MOST_PIECES = 64, 64
"""Rows of a piece, and pieces, of which each sums the gradients of weight and bias by itself."""
PRODUCTS, MLPS = (nn.Linear, nn.Conv2d), (Mlp, GluMlp, SwiGLU)
"""What takes products of bf16 of its input, and what begins with nothing else."""


def normalize(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """The layer norm of rows.

    Args:
        x: `(..., c)`, bf16 or float32, contiguous. weight, bias: float32 `(c,)`.

    Returns: as many, bf16, rounded once. The gradient of x has its number format, those of weight and bias are float32.
    """
    out: Tensor = _Normalize.apply(x, weight, bias, eps)
    return out


class _Normalize(torch.autograd.Function):
    """See `normalize`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        from barlowctl.kernels import layer_norm as kernels  # numba takes a second, which evaluation does not need

        weight, bias = weight.contiguous(), bias.contiguous()
        y = torch.empty(x.shape, dtype=torch.bfloat16)
        moments = torch.empty((x.numel() // x.shape[-1], 2), dtype=torch.float32)
        epsilon = np.array([eps], np.float32)
        tensors = {"X": x, "Y": y, "WEIGHT": weight, "BIAS": bias, "MOMENTS": moments}
        _call(kernels.normalizing(x.dtype), tensors, EPSILON=epsilon.ctypes.data)
        ctx.save_for_backward(x, weight, moments)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from barlowctl.kernels import layer_norm as kernels

        x, weight, moments = ctx.saved_tensors
        of_x, width = torch.empty_like(x), x.shape[-1]
        sums = torch.empty((-(-len(moments) // _rows_of_piece(len(moments))), 2, width), dtype=torch.float32)
        tensors = {"X": x, "GRADIENT": grad.contiguous(), "OF_X": of_x, "WEIGHT": weight, "MOMENTS": moments}
        _call(kernels.differentiating(x.dtype), tensors | {"SUMS": sums})
        return of_x, *sums.sum(0).unbind(0), None


def _rows_of_piece(rows: int) -> int:
    return max(FEWEST, -(-rows // MOST_PIECES))


def _call(function: Any, tensors: dict[str, Tensor], **fields: int) -> None:
    """Have all rows computed by torch's threads. tensors: by the fields of a task that have their addresses."""
    from barlowctl.kernels import layer_norm as kernels
    from barlowctl.kernels.thread_tiles import call

    rows, width = len(tensors["MOMENTS"]), tensors["X"].shape[-1]
    task = np.zeros(kernels.FIELDS, np.int64)
    task[kernels.ROWS], task[kernels.PIECE], task[kernels.WIDTH] = rows, _rows_of_piece(rows), width
    for name, value in ({name: tensor.data_ptr() for name, tensor in tensors.items()} | fields).items():
        task[getattr(kernels, name)] = value
    call(thread_team.team(), function.address, task)


class _Rounded(nn.LayerNorm):
    """A layer norm of rows whose result a product alone takes, which rounds it to bf16, in training on a CPU.

    Rounded here, it is the same. All else is computed by the class behind this one.
    """

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.LayerNorm`."""
        return normalize(x, self.weight, self.bias, self.eps) if takes(self, x) else super().forward(x)


class RoundedTorchLayerNorm(_Rounded):
    """torch's own."""


class RoundedLayerNorm(_Rounded, LayerNorm):
    """timm's."""


class RoundedLayerNorm2d(LayerNorm2d):
    """timm's over the channels of a map `(n, c, h, w)`, in channels_last."""

    def forward(self, x: Tensor) -> Tensor:
        """See timm's."""
        rows = x.permute(0, 2, 3, 1)
        if not takes(self, rows):
            out: Tensor = super().forward(x)
            return out
        return normalize(rows, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


def takes(norm: nn.LayerNorm, x: Tensor) -> bool:
    """Whether our kernels compute a norm of rows `(..., c)`: in training, in bf16, where nobody looks on."""
    if not norm.training or torch.compiler.is_compiling() or is_watched(norm):
        return False
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    plain = type(x) is Tensor and x.device.type == "cpu" and x.dtype in LIKE and x.is_contiguous() and x.numel() > 0
    parameters = (norm.weight, norm.bias)
    in_float32 = all(part is not None and part.dtype == torch.float32 for part in parameters)
    return autocast and plain and in_float32 and norm.normalized_shape == x.shape[-1:] and thread_team.serves()


ROUNDED: dict[type, type[nn.LayerNorm]] = {
    nn.LayerNorm: RoundedTorchLayerNorm,
    LayerNorm: RoundedLayerNorm,
    LayerNorm2d: RoundedLayerNorm2d,
}


def choose_layer_norms(network: nn.Module) -> None:
    """Let layer norms that products alone follow be computed by our kernels; names, parameters and hooks stay."""
    for norm in _in_front_of_products(network):
        norm.__class__ = ROUNDED.get(type(norm), type(norm))


def prepare_layer_norms(network: nn.Module, dtype: torch.dtype) -> None:
    """Compile the kernels of the network's layer norms, where they are used in a precision's number format."""
    if dtype == torch.bfloat16 and any(type(part) in ROUNDED.values() for part in network.modules()):
        one = torch.ones(1, dtype=torch.float32)
        for kind in LIKE:
            normalize(torch.zeros(1, 1, dtype=kind, requires_grad=True), one, one, 1e-6).sum().backward()


def _in_front_of_products(network: nn.Module) -> Iterator[nn.Module]:
    """Norms whose result a Linear or a convolution alone takes, as far as the network's own classes say."""
    for part in network.modules():
        if type(part) is nn.Sequential:
            yield from (norm for norm, following in pairwise(part.children()) if isinstance(following, PRODUCTS))
        elif type(part) is ConvNeXtBlock and isinstance(part.mlp.fc1, PRODUCTS):
            yield cast(nn.Module, part.norm)
        elif type(part) in (Block, EvaBlock):
            if isinstance(part.attn, tuple(FUSED)):
                yield cast(nn.Module, part.norm1)
            if type(part.mlp) in MLPS:
                yield cast(nn.Module, part.norm2)
