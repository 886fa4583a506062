"""Cosine similarities of embeddings: rows of unit length, and large tables of them a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from barlowctl.distributed import Ranks
from barlowctl.errors import UserError
from barlowctl.objective.devices import check_devices

ENTRIES_AT_ONCE = 1 << 22
"""Similarities that exist at once, 16 MiB of float32: a table of 8,192 x 8,192 is made in 16 parts and never whole."""


def unit_rows(z: Tensor) -> Tensor:
    """`(N, D)` floating point -> the rows at unit length, float32 or float64 also under autocast; zeros stay zeros."""
    return torch.nn.functional.normalize(z.to(torch.promote_types(z.dtype, torch.float32)), dim=1)


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices over the rows of a table with so many columns, each of about `ENTRIES_AT_ONCE` entries."""
    step = max(ENTRIES_AT_ONCE // max(columns, 1), 1)
    return (slice(begin, min(begin + step, rows)) for begin in range(0, rows, step))


def in_one_block(rows: int, columns: int) -> bool:
    """Whether a table is made at once, and so may as well be kept from a forward for its backward pass."""
    return len(list(row_blocks(rows, columns))) == 1


def agreed_shares(z: Tensor, ranks: Ranks, shares: Sequence[int] | None) -> Sequence[int]:
    """How many rows each rank has: as told, or asked for."""
    return ranks.shares(len(z)) if shares is None else shares


def check_pair(first: Tensor, second: Tensor, *, temperature: float) -> None:
    """Refuse embeddings that are no two floating point matrices of one shape, and a temperature that is not positive.

    Raises:
        UserError: with what was given.
    """
    shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
    if first.ndim != 2 or second.ndim != 2 or first.shape != second.shape or 0 in first.shape:
        raise UserError(
            f"the embeddings have shapes {shapes}", allowed="two matrices (samples, dimensions) of one shape"
        )
    if not (first.is_floating_point() and second.is_floating_point()):
        raise UserError(f"the embeddings are {first.dtype} and {second.dtype}", allowed="floating point tensors")
    check_devices(first, second)
    if not temperature > 0.0:
        raise UserError(f"temperature is {temperature}, but must be positive", allowed="a number above 0")
