"""Batch norm that a CPU computes in two passes over memory each way, with the ReLU after it.

torch's takes more, and several times as long where channels are few. What was measured is in docs/experiments.md.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from barlowctl.kernels import thread_team
from barlowctl.model.cpu import pooled_norm
from barlowctl.modes import is_watched
from barlowctl.own_gradients import made_here, once_differentiable

FORMATS = (torch.bfloat16, torch.float32)
"""Number formats that the kernels read and write."""


class FusedNorm(_BatchNorm):
    """A batch norm that our kernels compute in training, where they are the faster way.

    That is of images in channels_last or of rows, in bf16 or float32. Results are torch's up to the order of sums, in
    float32, and the same on any number of threads. All else is torch's own.
    """

    rectifies = False
    """Whether a ReLU, and nothing else, takes the result: then it is computed here, and that ReLU has nothing to do."""
    pools = False
    """Whether a maximum pooling (see `pooled_norm`) takes what is rectified, in this call: then it is computed here."""
    parts = 1
    """Of the batch, each normalised by itself, in turn: as many calls with one of them would do."""

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.BatchNorm2d`."""
        if not self._takes(x):
            if self.training and self.parts > 1:
                return torch.cat([super(FusedNorm, self).forward(part) for part in x.chunk(self.parts)])
            return super().forward(x)
        rectifies = self.rectifies and not is_watched(self) and not torch.is_inference_mode_enabled()
        if rectifies and self.pools:
            out = pooled_norm.normalize(x, self.weight, self.bias, *self._moved(), self.eps, self.parts)
            cast(Any, out).pooled_at = out._version
        else:
            out = self._normalized(x, None, rectifies)
        if rectifies:
            cast(Any, out).rectified_at = out._version
        return out

    def added(self, x: Tensor, shortcut: Tensor, activation: nn.Module) -> Tensor:
        """`activation(self(x) + shortcut)`, in the same passes over memory where the activation is a ReLU."""
        watched = is_watched(self) or is_watched(activation)
        alike = shortcut.dtype == x.dtype and shortcut.shape == x.shape and shortcut.stride() == x.stride()
        if watched or not alike or not self._takes(x):
            x = self(x)
            x += shortcut
            return cast(Tensor, activation(x))
        return self._normalized(x, shortcut, True)

    def _normalized(self, x: Tensor, shortcut: Tensor | None, rectifies: bool) -> Tensor:
        out: Tensor = _Normalize.apply(
            x, shortcut, self.weight, self.bias, *self._moved(), self.eps, self.parts, rectifies
        )
        return out

    def _moved(self) -> tuple[pooled_norm.Running, float]:
        """What kernels move, and the momentum. The number of batches, where they cannot, is added to here."""
        counted = self.num_batches_tracked
        if counted is not None and not (counted.dtype == torch.int64 and counted.device.type == "cpu"):
            counted.add_(self.parts)
            counted = None
        return (cast(Tensor, self.running_mean), cast(Tensor, self.running_var), counted), cast(float, self.momentum)

    def _takes(self, x: Tensor) -> bool:
        return self.training and not torch.compiler.is_compiling() and self._is_fused(x)

    def _is_fused(self, x: Tensor) -> bool:
        as_rows = x.is_contiguous() if x.ndim == 2 else x.is_contiguous(memory_format=torch.channels_last)
        in_memory = type(x) is Tensor and x.device.type == "cpu" and x.dtype in FORMATS
        rows = x.numel() // max(1, self.num_features * self.parts)
        return in_memory and as_rows and rows > 1 and thread_team.serves() and self._has_fp32()

    def _has_fp32(self) -> bool:
        """Whether weight, bias and running statistics lie in memory as the kernels take them."""
        vectors = self.weight, self.bias, self.running_mean, self.running_var
        return all(v is not None and v.dtype == torch.float32 and v.is_contiguous() for v in vectors)


class FusedBatchNorm1d(FusedNorm, nn.BatchNorm1d):
    """See `FusedNorm`."""

    def _is_fused(self, x: Tensor) -> bool:
        return x.ndim == 2 and super()._is_fused(x)


class FusedBatchNorm2d(FusedNorm, nn.BatchNorm2d):
    """See `FusedNorm`."""

    def _is_fused(self, x: Tensor) -> bool:
        return x.ndim == 4 and super()._is_fused(x)


class FusedBatchNormAct2d(FusedNorm, BatchNormAct2d):
    """timm's batch norm with the activation after it, which is computed in the same passes where it is a ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """See `BatchNormAct2d`."""
        if not self._takes(x):
            return super().forward(x)
        bare = type(self.drop) is nn.Identity and type(self.act) is nn.ReLU
        if bare and not is_watched(self.drop) and not is_watched(self.act):
            return self._normalized(x, None, True)
        return cast(Tensor, self.act(self.drop(self._normalized(x, None, False))))

    def _is_fused(self, x: Tensor) -> bool:
        return x.ndim == 4 and super()._is_fused(x)


class ReLUOfFused(nn.ReLU):
    """A ReLU that leaves as it is what a fused batch norm has rectified."""

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.ReLU`."""
        rectified_at = getattr(x, "rectified_at", None)
        return x if rectified_at is not None and rectified_at == x._version else super().forward(x)


class _Normalize(torch.autograd.Function):
    """Batch norm of x, `(n, c, h, w)` in channels_last or `(n, c)`, in `parts` along n; then a ReLU or not."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        shortcut: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        running: tuple[Tensor, Tensor, Tensor | None],
        momentum: float,
        eps: float,
        parts: int,
        rectifies: bool,
    ) -> Tensor:
        from barlowctl.kernels.batch_norm import (
            passes as norm_passes,  # numba takes a second, which evaluation does not need
        )

        width = x.shape[1]
        shape = (parts, x.numel() // (width * parts), width)
        y, statistics = torch.empty_like(x), torch.empty(2, parts, width, dtype=torch.float32)
        marks = None if shortcut is None else norm_passes.marks_of(x)
        norm_passes.normalize(x, shortcut, y, shape, weight, bias, eps, rectifies, statistics, running, momentum, marks)
        of_sum = [] if shortcut is None else [y if marks is None else marks]
        ctx.save_for_backward(x, weight, bias, statistics, *of_sum)
        ctx.shape, ctx.rectifies = shape, rectifies
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from barlowctl.kernels.batch_norm import passes as norm_passes

        x, weight, bias, statistics, *result = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else grad.contiguous()
        of_x, of_parameters = torch.empty_like(x), (torch.empty_like(weight), torch.empty_like(bias))
        y = result[0] if result else None
        of_shortcut = norm_passes.differentiate(
            grad, x, y, of_x, ctx.shape, weight, bias, ctx.rectifies, statistics, of_parameters
        )
        if of_shortcut is not None:
            made_here(of_shortcut)
        return of_x, of_shortcut, *of_parameters, None, None, None, None, None
