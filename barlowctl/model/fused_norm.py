"""Batch norm that a CPU computes in two passes over memory each way, with the ReLU after it.

torch's takes more, and several times as long where channels are few. What was measured is in docs/experiments.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm


class _Fused(_BatchNorm):
    """A batch norm that our kernels compute in training, where they are the faster way.

    That is in bf16, with one thread, of images in channels_last or of rows. Results are torch's up to the order of
    sums, in float32. All else is torch's own.
    """

    rectifies = False
    """Whether a ReLU, and nothing else, takes the result: then it is computed here, and that ReLU has nothing to do."""
    parts = 1
    """Of the batch, each normalised by itself, in turn: as many calls with one of them would do."""

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.BatchNorm2d`."""
        if not self.training or torch.compiler.is_compiling() or not self._is_fused(x):
            if self.training and self.parts > 1:
                return torch.cat([super(_Fused, self).forward(part) for part in x.chunk(self.parts)])
            return super().forward(x)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(self.parts)
        rectifies = self.rectifies and not self._forward_hooks and not torch.is_inference_mode_enabled()
        momentum = cast(float, self.momentum)
        running = (self.running_mean, self.running_var)
        out: Tensor = _Normalize.apply(x, self.weight, self.bias, running, momentum, self.eps, self.parts, rectifies)
        if rectifies:
            cast(Any, out).rectified_at = out._version
        return out

    def _is_fused(self, x: Tensor) -> bool:
        as_rows = x.is_contiguous() if x.ndim == 2 else x.is_contiguous(memory_format=torch.channels_last)
        in_bf16 = type(x) is Tensor and x.device.type == "cpu" and x.dtype == torch.bfloat16
        rows = x.numel() // max(1, self.num_features * self.parts)
        in_fp32 = self.weight.dtype == torch.float32
        return in_bf16 and in_fp32 and as_rows and rows > 1 and torch.get_num_threads() == 1


class FusedBatchNorm1d(_Fused, nn.BatchNorm1d):
    """See `_Fused`."""

    def _is_fused(self, x: Tensor) -> bool:
        return x.ndim == 2 and super()._is_fused(x)


class FusedBatchNorm2d(_Fused, nn.BatchNorm2d):
    """See `_Fused`."""

    def _is_fused(self, x: Tensor) -> bool:
        return x.ndim == 4 and super()._is_fused(x)


class ReLUOfFused(nn.ReLU):
    """A ReLU that leaves as it is what a fused batch norm has rectified."""

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.ReLU`."""
        rectified_at = getattr(x, "rectified_at", None)
        return x if rectified_at is not None and rectified_at == x._version else super().forward(x)


class _Normalize(torch.autograd.Function):
    """Batch norm of x, bfloat16 `(n, c, h, w)` in channels_last or `(n, c)`, in `parts` along n; then a ReLU or not."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running: tuple[Tensor, Tensor],
        momentum: float,
        eps: float,
        parts: int,
        rectifies: bool,
    ) -> Tensor:
        from barlowctl.model import norm_kernels  # numba takes a second, which evaluation does not need

        width = x.shape[1]
        shape = (parts, x.numel() // (width * parts), width)
        y, statistics = torch.empty_like(x), torch.empty(2, parts, width)
        mean, inverse = statistics.numpy()
        norm_kernels.normalize(
            x.data_ptr(),
            y.data_ptr(),
            shape,
            weight.detach().numpy(),
            bias.detach().numpy(),
            eps,
            rectifies,
            mean,
            inverse,
            (running[0].numpy(), running[1].numpy()),
            momentum,
        )
        ctx.save_for_backward(x, weight, statistics, *([y] if rectifies else []))
        ctx.shape = shape
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from barlowctl.model import norm_kernels

        x, weight, statistics, *result = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else grad.contiguous()
        of_x, of_parameters = torch.empty_like(x), torch.zeros(2, len(weight))
        norm_kernels.differentiate(
            grad.data_ptr(),
            x.data_ptr(),
            result[0].data_ptr() if result else 0,
            of_x.data_ptr(),
            ctx.shape,
            weight.detach().numpy(),
            *statistics.numpy(),
            bool(result),
            *of_parameters.numpy(),
        )
        return of_x, *of_parameters.unbind(), None, None, None, None, None


def choose_norms(network: nn.Module, device: torch.device) -> None:
    """Let batch norms be computed by our kernels on a CPU; names, parameters, buffers and hooks stay."""
    if device.type != "cpu":
        return
    for part in network.modules():
        if type(part) is nn.BatchNorm2d and _is_plain(part):
            part.__class__ = FusedBatchNorm2d
        elif type(part) is nn.BatchNorm1d and _is_plain(part):
            part.__class__ = FusedBatchNorm1d
    for norm, activation in _followed_by(network):
        if isinstance(norm, _Fused) and type(activation) in (nn.ReLU, ReLUOfFused):
            norm.rectifies = True
            activation.__class__ = ReLUOfFused


def prepare_norms(network: nn.Module) -> None:
    """Compile the kernels of the network's batch norms where it has some: the first call ever takes seconds.

    Whoever times a step does this before, in one thread, which is where kernels are used.
    """
    if any(isinstance(part, _Fused) for part in network.modules()):
        x = torch.zeros(2, 1, 1, 1, dtype=torch.bfloat16).to(memory_format=torch.channels_last).requires_grad_()
        FusedBatchNorm2d(1)(x).sum().backward()


def _is_plain(norm: _BatchNorm) -> bool:
    """Whether it has what the kernels expect."""
    return norm.affine and norm.track_running_stats and norm.momentum is not None


def _followed_by(network: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """A module and what alone takes its result, as far as the network's own classes say."""
    for part in network.modules():
        if type(part) is nn.Sequential:
            yield from pairwise(part.children())
        elif type(part) is ResNet:
            yield part.get_submodule("bn1"), part.get_submodule("act1")
        elif type(part) in (BasicBlock, Bottleneck) and type(part.drop_block) is nn.Identity:
            yield part.get_submodule("bn1"), part.get_submodule("act1")
            if type(part) is Bottleneck:
                yield part.get_submodule("bn2"), part.get_submodule("act2")
