"""Products of rows of bfloat16 by a processor's tiles or vectors (`tiles.sums`): 1 x 1 convolutions, projectors.

oneDNN takes longer to begin a small product than to multiply, and turns what a gradient of a weight is summed over in
another pass over memory. What was measured is in docs/experiments.md; the kernels are in `tiles.row_products`.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from barlowctl.kernels import scratchpad, thread_team
from barlowctl.model.cpu import tile_products
from barlowctl.model.cpu.matrix_products import matrix_of, rows_of
from barlowctl.model.cpu.pixel_products import map_of
from barlowctl.model.cpu.tile_products import STEP
from barlowctl.own_gradients import is_made_here, once_differentiable

if TYPE_CHECKING:
    from barlowctl.model.cpu.tile_row_plans import Plan

FEW_PRODUCTS, FEW_WEIGHTS = 2 * 10**8, 2**19
"""Up to so many of both, results and gradients of what is multiplied are computed here; else they are oneDNN's."""
ROWS_OF_THREAD, MOST_WEIGHTS = 512, 2**21
"""By vectors, products of so many rows for each thread are, too, with up to so many weights, which each packs."""


def takes(weight: Tensor, x: Tensor) -> bool:
    """Whether products of a float32 weight with rows of x can be computed so here."""
    plain = type(weight.detach()) is Tensor and weight.dtype == torch.float32 and type(x) is Tensor and len(x) > 0
    return plain and thread_team.serves() and tile_products.is_usable()


def multiplies(rows: int, weight: Tensor) -> bool:
    """Whether results, and gradients of what is multiplied, are computed here for so many rows and a weight."""
    if weight.numel() <= FEW_WEIGHTS and rows * weight.numel() <= FEW_PRODUCTS:
        return True
    many = rows >= ROWS_OF_THREAD * thread_team.count() and weight.numel() <= MOST_WEIGHTS
    return many and not tile_products.has_tiles()


def prepare() -> None:
    """Compile the kernels: the first call ever takes seconds."""
    x = torch.zeros(1, STEP, 1, 1, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.zeros(STEP, STEP, 1, 1, dtype=torch.float32, requires_grad=True)
    convolve(x, weight, (1, 1), (0, 0)).sum().backward()
    bias = torch.zeros(STEP, dtype=torch.float32, requires_grad=True)
    multiply(x[:, :, 0, 0], weight[:, :, 0, 0], bias).sum().backward()


def convolve(x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """The convolution of x, bf16 `(n, c, h, w)` in channels_last, with weight `(d, c, k, l)`, without a bias.

    Of a kernel larger than 1 x 1, or with a stride, the gradient of the weight alone is computed here.

    Args:
        weight: float32; it is rounded to bf16.

    Returns: `(n, d, h', w')` in channels_last, bf16. The gradient of the weight is float32.
    """
    assert tile_products.is_usable()
    out: Tensor = _Convolution.apply(x, weight, stride, padding)
    return out


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x, bf16 `(n, c)`, times weight `(d, c)`, and a bias `(d,)`, float32: `(n, d)`. As `convolve` else."""
    assert tile_products.is_usable()
    if bias is not None:
        biased: Tensor = _BiasedRows.apply(x.contiguous(), weight, bias)
        return biased
    maps = (part.view(*part.shape, 1, 1) for part in (x.contiguous(), weight))
    out: Tensor = _Rows.apply(*maps, (1, 1), (0, 0))
    return out.view(out.shape[:2])


def beside(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The 1 x 1 convolution of x, and x itself as a shortcut, to whose gradient that of the convolution is added.

    Args:
        x, weight: as of `convolve`; c is a multiple of 32, and products are computed here (`multiplies`).
    """
    assert tile_products.is_usable()
    shortcut, out = _BranchInRows.apply(x, weight, (1, 1), False)
    return out, shortcut


def branches(x: Tensor, weight: Tensor, stride: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """x as another branch takes it, and its 1 x 1 convolution with a stride, whose gradient is added to the other's.

    Args:
        x, weight: as of `beside`. The gradient of the first result is one that nobody else has.
    """
    assert tile_products.is_usable()
    out: tuple[Tensor, Tensor] = _BranchInRows.apply(x, weight, stride, True)
    return out


class _Convolution(torch.autograd.Function):
    """See `convolve`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.stride, ctx.padding = stride, padding
        n, (d, _, *kernel) = x.shape[0], weight.shape
        size = map_of(x.shape[2:], weight.shape[2:], stride, padding)
        ctx.pointwise = kernel == [1, 1] and stride == (1, 1)
        ctx.ours = ctx.pointwise and multiplies(n * size[0] * size[1], weight)
        weight = weight if ctx.ours else weight.to(x.dtype)
        ctx.save_for_backward(x, weight)
        if not ctx.pointwise:
            with torch.autocast("cpu", enabled=False):
                return nn.functional.conv2d(x, weight, None, stride, padding)
        y = torch.empty((n, d, *size), dtype=x.dtype, memory_format=torch.channels_last)
        if ctx.ours:
            _multiply(x, weight, y)
        else:
            torch.mm(rows_of(x), matrix_of(weight).t(), out=rows_of(y))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            if ctx.pointwise:
                of_x = torch.empty_like(x)
                if ctx.ours:
                    _multiply(grad, weight, of_x, turned=True)
                else:
                    torch.mm(rows_of(grad), matrix_of(weight), out=rows_of(of_x))
            else:
                of_x = torch.ops.aten.convolution_backward(
                    grad, x, weight, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1,
                    (True, False, False),
                )[0]  # fmt: skip
        if ctx.needs_input_grad[1]:
            of_weight = gradient_of_weight(x, grad, weight.shape, ctx.stride, ctx.padding)
        return of_x, of_weight, None, None


class _Rows(_Convolution):
    """See `multiply`: by another name, as profiles have it."""


class _BiasedRows(torch.autograd.Function):
    """See `multiply`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.ours = multiplies(len(x), weight)
        weight = weight if ctx.ours else weight.to(x.dtype)
        ctx.save_for_backward(x, weight)
        if not ctx.ours:
            return _added_before_rounding(x, weight, bias)
        y = torch.empty((len(x), len(weight)), dtype=x.dtype)
        _multiply(*map(_as_maps, (x, weight, y)), bias=bias)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from barlowctl.kernels.batch_norm.passes import sum_of_rows

        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        of_x = of_weight = None
        if ctx.needs_input_grad[0] and ctx.ours:
            of_x = torch.empty_like(x)
            _multiply(*map(_as_maps, (grad, weight, of_x)), turned=True)
        elif ctx.needs_input_grad[0]:
            of_x = grad @ weight
        if ctx.needs_input_grad[1]:
            shape = (*weight.shape, 1, 1)
            of_weight = gradient_of_weight(_as_maps(x), _as_maps(grad), shape, (1, 1), (0, 0)).view(weight.shape)
        return of_x, of_weight, sum_of_rows(grad) if ctx.needs_input_grad[2] else None


@cache
def _takes_biases() -> bool:
    """Whether torch has oneDNN's product with a bias, which inductor calls, and oneDNN computes in bf16 here."""
    ops = torch.ops.mkldnn
    return hasattr(ops, "_linear_pointwise") and bool(ops._is_mkldnn_bf16_supported())


def _added_before_rounding(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x, bf16, times weight, bf16, and a bias of float32, by oneDNN.

    torch's `addmm` takes a bias of bf16, and writes it to every row first, which takes half as long as the product.
    """
    if not _takes_biases():
        return torch.addmm(bias.to(x.dtype), x, weight.t())
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight.contiguous(), bias, "none", [], "")
    return y


def _as_maps(rows: Tensor) -> Tensor:
    return rows.view(*rows.shape, 1, 1)


class _BranchInRows(torch.autograd.Function):
    """x, and its 1 x 1 convolution with a stride. Either's gradient may be missing. own: nobody else has that of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], own: bool) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, weight)
        ctx.set_materialize_grads(False)
        ctx.stride, ctx.own = stride, own
        size = map_of(x.shape[2:], (1, 1), stride, (0, 0))
        y = torch.empty((x.shape[0], weight.shape[0], *size), dtype=x.dtype, memory_format=torch.channels_last)
        _multiply(x, weight, y, stride=stride)
        return x.view_as(x), y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_x: Tensor | None, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return of_x, None, None, None
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        if of_x is None:
            of_x = torch.zeros_like(x)
        elif not ctx.own and not is_made_here(of_x):
            of_x = of_x.clone(memory_format=torch.channels_last)
        of_x = of_x.contiguous(memory_format=torch.channels_last)
        _multiply(grad, weight, of_x, turned=True, added=(*x.shape[2:], *ctx.stride))
        of_weight = gradient_of_weight(x, grad, weight.shape, ctx.stride, (0, 0)) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None, None


def gradient_of_weight(
    x: Tensor, grad: Tensor, shape: tuple[int, ...], stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """That of a weight of `shape` `(d, c, k, l)`, float32 in channels_last, by the gradient of a result."""
    from barlowctl.model.cpu import tile_row_plans as plans  # numba takes a second, which evaluation does not need

    d, c, *kernel = shape
    plan = plans.of_gradient(tuple(x.shape), (d, *kernel), tuple(grad.shape[2:]), stride, padding, thread_team.count())
    pieces, *sizes = plan.sums
    if pieces == 1 and sizes == [d, c * math.prod(kernel)]:
        of_weight = torch.empty(shape, dtype=torch.float32, memory_format=torch.channels_last)
        _call(plan, X=x, GRADIENT=grad, Y=of_weight)
        return of_weight
    sums = torch.empty(plan.sums, dtype=torch.float32)
    _call(plan, X=x, GRADIENT=grad, Y=sums)
    whole = sums[0] if pieces == 1 else sums.sum(0)
    return whole[:d, : c * math.prod(kernel)].contiguous().view(d, *kernel, c).permute(0, 3, 1, 2)


def _multiply(
    x: Tensor,
    weight: Tensor,
    y: Tensor,
    *,
    stride: tuple[int, int] = (1, 1),
    turned: bool = False,
    added: tuple[int, ...] = (),
    bias: Tensor | None = None,
) -> None:
    """y = the 1 x 1 convolution of x; turned: with the transposed weight. added: see `tile_row_plans.task_of`."""
    from barlowctl.model.cpu import tile_row_plans as plans

    size = tuple((x if added else y).shape[2:])
    out = weight.shape[1 if turned else 0]
    plan = plans.of_product(tuple(x.shape), out, size, stride, turned, added, thread_team.count())
    tensors = {"X": x, "WEIGHTS": weight if weight.is_contiguous() else matrix_of(weight).contiguous(), "Y": y}
    _call(plan, **tensors, **({} if bias is None else {"BIASES": bias}))


def _call(plan: Plan, **tensors: Tensor) -> None:
    """Have all pieces of a plan done by torch's threads. tensors: by the fields of a task that have their addresses."""
    from barlowctl.kernels.thread_tiles import call
    from barlowctl.kernels.tiles import row_packing as fields

    team, task = thread_team.team(), plan.task.copy()
    for name, tensor in tensors.items():
        task[getattr(fields, name)] = tensor.data_ptr()
    (task[fields.ROOM],), task[fields.ROOM_SIZE] = scratchpad.take(team[1] * plan.room), plan.room
    call(team, plan.function, task)
