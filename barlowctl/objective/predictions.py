"""What losses that compare predictions with projections refuse."""

from __future__ import annotations

from torch import Tensor

from barlowctl.errors import UserError
from barlowctl.objective.devices import check_devices


def check_predictions(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> None:
    """Refuse predictions and projections of different shapes: a product of them would be broadcast.

    Raises:
        UserError: shapes or devices that differ, no matrices, or integers.
    """
    shapes = [tuple(tensor.shape) for tensor in (p1, p2, z1, z2)]
    if p1.ndim != 2 or 0 in p1.shape or any(shape != shapes[0] for shape in shapes):
        raise UserError(
            f"predictions of shapes {shapes[0]} and {shapes[1]}, projections of {shapes[2]} and {shapes[3]}",
            allowed="four matrices (samples, dimensions) of one shape",
        )
    if not all(tensor.is_floating_point() for tensor in (p1, p2, z1, z2)):
        kinds = ", ".join(str(tensor.dtype) for tensor in (p1, p2, z1, z2))
        raise UserError(f"predictions and projections are {kinds}", allowed="floating point tensors")
    check_devices(p1, p2, z1, z2)
