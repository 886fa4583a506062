"""Attention in bf16 that a CPU computes head by head, as products of vectors: products of all patches are not kept.

The backward pass of torch's fused kernel takes three times as long there as its products. What was measured is in
docs/experiments.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from timm.layers.attention import Attention, AttentionRope
from timm.models.eva import EvaAttention
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from barlowctl.kernels import scratchpad, thread_team
from barlowctl.model.cpu import tile_products
from barlowctl.own_gradients import once_differentiable

STEP = 32
"""Numbers of a head's row are a multiple of it."""


def is_usable() -> bool:
    """Whether the processor multiplies in bfloat16 by tiles or vectors."""
    return tile_products.is_usable()


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """softmax(scale q k^T) v: `(images, heads, patches, width)` each, bf16; width is a multiple of 32.

    Returns: as many, in memory as `(images, patches, heads, width)`.
    """
    assert is_usable()
    out: Tensor = _Attend.apply(q, k, v, scale)
    return out


def takes(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether such attention can be computed so."""
    alike = q.shape == k.shape == v.shape and {q.dtype, k.dtype, v.dtype} == {torch.bfloat16}
    plain = all(type(part) is Tensor and part.device.type == "cpu" for part in (q, k, v))
    return plain and alike and q.ndim == 4 and q.shape[-1] % STEP == 0 and q.numel() > 0 and thread_team.serves()


class _Attend(torch.autograd.Function):
    """See `attend`."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        from barlowctl.kernels.attention import heads as kernels

        q, k, v = map(_in_rows, (q, k, v))
        n, heads, patches, width = q.shape
        out = torch.empty((n, patches, heads, width), dtype=q.dtype)
        sums = torch.empty((n, heads, patches), dtype=torch.float32)
        _call(kernels.attend_heads, scale, {"Q": q, "K": k, "V": v}, OUT=out, SUMS=sums)
        ctx.save_for_backward(q, k, v, out, sums)
        ctx.scale = scale
        return out.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from barlowctl.kernels.attention import heads as kernels

        q, k, v, out, sums = ctx.saved_tensors
        n, heads, patches, width = q.shape
        of_all = torch.empty((n, patches, 3, heads, width), dtype=q.dtype)
        of = dict(zip(("OF_Q", "OF_K", "OF_V"), of_all.unbind(2), strict=True))
        maps = {"Q": q, "K": k, "V": v, "G": _in_rows(grad)}
        _call(kernels.differentiate_heads, ctx.scale, maps, OUT=out, SUMS=sums, **of)
        return *of_all.permute(2, 0, 3, 1, 4).unbind(0), None


class _AttentionParts(torch.autograd.Function):
    """The parts of q, k and v `(3, ...)` in one: their gradients are one, too, where `_Attend` has written them so."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, ...]:
        return x.unbind(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _in_one(grads)


def _in_one(parts: Sequence[Tensor]) -> Tensor:
    """Parts as those of one tensor: the memory in which they lie, equally far apart, or a new one."""
    first, second = parts[:2]
    step = second.storage_offset() - first.storage_offset()
    for number, part in enumerate(parts):
        alike = part.shape == first.shape and part.stride() == first.stride() and part.dtype == first.dtype
        together = part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if step <= 0 or not (alike and together and part.storage_offset() == first.storage_offset() + number * step):
            return torch.stack(tuple(parts))
    return first.as_strided((len(parts), *first.shape), (step, *first.stride()))


def _in_rows(x: Tensor) -> Tensor:
    """x with rows whose numbers lie after one another."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _call(function: Any, scale: float, maps: dict[str, Tensor], **tensors: Tensor) -> None:
    """Have all heads computed by torch's threads; with a gradient G among the maps, backward."""
    from barlowctl.kernels.attention import heads as kernels
    from barlowctl.kernels.thread_tiles import call

    n, heads, patches, width = maps["Q"].shape
    team = thread_team.team()
    room = scratchpad.whole_lines(kernels.room_of(patches, width, backward="G" in maps))
    scales = np.array([scale, scale * math.log2(math.e)], np.float32)
    strides = {
        f"{name}_{part}": 2 * stride
        for name, x in maps.items()
        for part, stride in zip(("IMAGE", "HEAD", "ROW"), x.stride(), strict=False)
    }
    addresses = {name: x.data_ptr() for name, x in (maps | tensors).items()}
    task = kernels.task_of(
        **addresses, **strides, heads=heads, count=n * heads, patches=patches, width=width,
        scales=scales.ctypes.data, of_row=3 * heads * width * 2, configuration=tile_products.configuration_at(),
    )  # fmt: skip
    (task[kernels.ROOM],), task[kernels.ROOM_SIZE] = scratchpad.take(team[1] * room), room
    call(team, function.address, task)


class _Ours(TorchFunctionMode):
    """Within it torch's fused attention is `attend` where that takes it: without a mask and without dropout.

    q, k and v are taken from one tensor so that their gradients need not be put together.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.unbind and args[1:] == (0,) and not kwargs and _holds_rows_of_all(args[0]):
            return _AttentionParts.apply(args[0])
        if (
            func is nn.functional.scaled_dot_product_attention
            and len(args) == 3
            and takes(*args)
            and _is_plain(**kwargs)
        ):
            scale = kwargs.get("scale")
            return attend(args[0], args[1], args[2], args[0].shape[-1] ** -0.5 if scale is None else scale)
        return func(*args, **kwargs)


def _holds_rows_of_all(x: Tensor) -> bool:
    """Whether these are q, k and v, `(3, images, heads, patches, width)`, as `attend` takes them."""
    return x.ndim == 5 and len(x) == 3 and x.requires_grad and takes(*x.detach().unbind(0))


def _is_plain(
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> bool:
    """Whether nothing is asked of torch's attention that `attend` does not do."""
    return attn_mask is None and dropout_p == 0 and not is_causal and not enable_gqa


class _Fused(nn.Module):
    """Attention of timm's, whose fused kernel is `attend` on a CPU where that takes it; all else is timm's own."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """See timm's."""
        if torch.compiler.is_compiling():
            plain: Tensor = super().forward(*args, **kwargs)
            return plain
        with _Ours():
            out: Tensor = super().forward(*args, **kwargs)
        return out


class FusedAttention(_Fused, Attention):
    """Of a vision transformer."""


class FusedRopeAttention(_Fused, AttentionRope):
    """Of one with rotary embeddings of positions."""


class FusedEvaAttention(_Fused, EvaAttention):
    """Of EVA's and DINOv3's."""


FUSED: dict[type, type] = {
    Attention: FusedAttention,
    AttentionRope: FusedRopeAttention,
    EvaAttention: FusedEvaAttention,
}


def prepare_attention(network: nn.Module, precision: str) -> None:
    """Compile the kernels of the network's attention in a precision, where it is used: the first call takes seconds."""
    if precision == "bf16" and any(isinstance(part, _Fused) for part in network.modules()):
        x = torch.zeros(1, 1, 1, STEP, dtype=torch.bfloat16, requires_grad=True)
        attend(x, x, x, 1.0).sum().backward()
