"""Memory that operations of torch hold at a time, counted on any device."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Allocations(TorchDispatchMode):
    """Meanwhile counts the bytes of tensors that operations make: `held` now, `peak` at most; the backward pass too.

    Not counted is what was there before, and what a kernel needs for itself while it computes.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held = self.peak = 0

    def __torch_dispatch__(
        self, operation: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        given = _storages((args, kwargs))
        for place, storage in _storages(result).items():
            if place not in given:  # a view, or changed in place
                size = storage.nbytes()
                self.held += size
                self.peak = max(self.peak, self.held)
                weakref.finalize(storage, self._freed, size)
        return result

    def _freed(self, size: int) -> None:
        self.held -= size


def _storages(values: Any) -> dict[int, Any]:
    """The pieces of memory of all tensors in nested values, by identity."""
    storages = [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
    return {storage._cdata: storage for storage in storages}
