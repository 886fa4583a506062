"""The views that a method is given, against those that it takes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from barlowctl.errors import UserError


def check_views(method: str, views: Sequence[Tensor], count: int) -> None:
    """Refuse another number of views than `count`.

    Raises:
        UserError: with both numbers.
    """
    if len(views) != count:
        raise UserError(f"{method} compares {count} views of each image, got {len(views)}", allowed=str(count))
