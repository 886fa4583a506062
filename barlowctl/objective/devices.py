"""Tensors of one loss are on one device: a kernel that is given the memory of another reads what lies there."""

from __future__ import annotations

from torch import Tensor

from barlowctl.errors import UserError


def check_devices(*tensors: Tensor) -> None:
    """Refuse tensors on several devices, and such as have no values.

    Raises:
        UserError: with the devices, in the tensors' order.
    """
    devices = list(dict.fromkeys(str(tensor.device) for tensor in tensors))
    if len(devices) > 1:
        raise UserError(
            f"the embeddings are on {' and '.join(devices)}",
            allowed=f"one device for all: embeddings.to({devices[0]!r}) of the others, or of their network",
        )
