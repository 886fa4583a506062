"""Batch norm's passes over tensors in memory: by the calling thread, or by torch's where there is enough to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from barlowctl.model import norm_kernels, thread_team

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
    running: tuple[Tensor, Tensor],
    momentum: float,
) -> None:
    """y = batch norm of x, bfloat16 of `shape` (parts, rows, width) in memory: see `norm_kernels.normalize`.

    statistics: float32 (2, parts, width), written. running: mean and variance, moved.
    """
    values = (
        x.data_ptr(),
        0 if shortcut is None else shortcut.data_ptr(),
        y.data_ptr(),
        shape,
        weight.detach().numpy(),
        bias.detach().numpy(),
        eps,
        rectifies,
        *statistics.numpy(),
        (running[0].numpy(), running[1].numpy()),
        momentum,
    )
    if (crew := _crew(x.numel())) is None:
        norm_kernels.normalize(*values)
    else:
        from barlowctl.model import norm_threads

        norm_threads.normalize_together(crew, norm_threads.work_of(shape), *values)


def differentiate(
    grad: Tensor,
    x: Tensor,
    y: Tensor | None,
    of_x: Tensor,
    shape: Shape,
    weight: Tensor,
    statistics: Tensor,
    of: Tensor,
) -> None:
    """of_x = the gradient of x; `of` (2, width): of weight and bias, added to. y: the result, if it was rectified."""
    values = (
        grad.data_ptr(),
        x.data_ptr(),
        0 if y is None else y.data_ptr(),
        of_x.data_ptr(),
        shape,
        weight.detach().numpy(),
        *statistics.numpy(),
        y is not None,
        *of.numpy(),
    )
    if (crew := _crew(x.numel())) is None:
        norm_kernels.differentiate(*values)
    else:
        from barlowctl.model import norm_threads

        norm_threads.differentiate_together(crew, norm_threads.work_of(shape), *values)


def keep_where_positive(grad: Tensor, y: Tensor, target: Tensor) -> None:
    """target = grad, and 0 where y is 0."""
    values = grad.data_ptr(), y.data_ptr(), target.data_ptr(), grad.numel()
    if (crew := _crew(grad.numel())) is None:
        norm_kernels.keep_where_positive(*values)
    else:
        from barlowctl.model import norm_threads

        norm_threads.keep_together(crew, np.zeros(norm_threads.FIELDS, np.int64), *values)


def _crew(values: int) -> Any:
    """Who works on so many values: see `norm_threads.crew_of`; None: the calling thread alone."""
    threads, team = torch.get_num_threads(), thread_team.address()
    if threads == 1 or team is None or values < FOR_SEVERAL:
        return None
    from barlowctl.model import norm_threads  # compiled where several threads are used

    return norm_threads.crew_of(team, threads)
