"""Batch norm's passes over tensors in memory: by the calling thread, or by torch's where there is enough to do."""

from __future__ import annotations

import torch
from torch import Tensor

from barlowctl.kernels import thread_team
from barlowctl.kernels.batch_norm import threads as norm_threads
from barlowctl.kernels.batch_norm import vectors as norm_vectors
from barlowctl.kernels.number_formats import LIKE

FOR_SEVERAL = 32768
"""Values from which on several threads take part: below that waking them takes as long as what they do."""
Shape = tuple[int, int, int]


def normalize(
    x: Tensor,
    shortcut: Tensor | None,
    y: Tensor,
    shape: Shape,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    rectifies: bool,
    statistics: Tensor,
    running: tuple[Tensor, Tensor, Tensor | None],
    momentum: float,
    marks: Tensor | None = None,
) -> None:
    """y = batch norm of x, bfloat16 or float32 of `shape` (parts, rows, width) in memory: see `threads`.

    With a shortcut y is their sum, rectified. marks: a bit for each of its values, written: whether it is not 0.
    statistics: float32 (2, parts, width), written. running: mean and variance, moved; and the number
    of batches, int64, to which the parts are added, if it is there.
    """
    mean, variance, counted = running
    norm_threads.normalize(
        _team(x),
        x.data_ptr(),
        0 if shortcut is None else shortcut.data_ptr(),
        y.data_ptr(),
        0 if marks is None else marks.data_ptr(),
        LIKE[x.dtype],
        shape,
        (weight.data_ptr(), bias.data_ptr(), statistics.data_ptr(), mean.data_ptr(), variance.data_ptr()),
        0 if counted is None else counted.data_ptr(),
        eps,
        momentum,
        rectifies,
    )


def differentiate(
    grad: Tensor,
    x: Tensor,
    y: Tensor | None,
    of_x: Tensor,
    shape: Shape,
    weight: Tensor,
    bias: Tensor,
    rectified: bool,
    statistics: Tensor,
    of: tuple[Tensor, Tensor],
) -> Tensor | None:
    """of_x = the gradient of x; `of`: those of weight and bias, `(width,)`. All are written.

    y: the rectified sum, if there was one, or its marks (see `marks_of`); then the result is the gradient of what was
    added.
    """
    masked = None if y is None else torch.empty_like(grad)
    marks = y if y is not None and y.dtype == torch.uint8 else None
    norm_threads.differentiate(
        _team(x),
        grad.data_ptr(),
        x.data_ptr(),
        0 if y is None or marks is not None else y.data_ptr(),
        0 if marks is None else marks.data_ptr(),
        0 if masked is None else masked.data_ptr(),
        of_x.data_ptr(),
        LIKE[x.dtype],
        shape,
        (weight.data_ptr(), bias.data_ptr(), statistics.data_ptr(), of[0].data_ptr(), of[1].data_ptr()),
        rectified,
    )
    return masked


def sum_of_rows(x: Tensor) -> Tensor:
    """Of x, bfloat16 or float32 `(rows, width)` in memory: float32 `(width,)`. It is summed in float64 at last."""
    rows, width = x.shape
    out = torch.empty(width, dtype=torch.float32)
    norm_threads.sum_rows(_team(x), x.data_ptr(), LIKE[x.dtype], rows, width, out.data_ptr())
    return out


def marks_of(x: Tensor) -> Tensor | None:
    """Room for a bit for each value of a sum like x, uint8, where our kernels write it and mask the gradient by it."""
    marked = x.dtype == torch.bfloat16 and norm_vectors.marks(x.shape[1])
    return torch.empty(x.numel() // 8, dtype=torch.uint8) if marked else None


def team_for(x: Tensor) -> tuple[int | None, int]:
    """The team for so many values: see `thread_team.team`; on its own where they are few."""
    parallel = thread_team.address()
    return parallel, 1 if parallel is None or x.numel() < FOR_SEVERAL else torch.get_num_threads()


def _team(x: Tensor) -> tuple[int, ...]:
    return norm_threads.team_of(*team_for(x), x.dtype)
