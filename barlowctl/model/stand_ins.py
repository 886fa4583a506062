"""A network called with other tensors in place of its own, such as ones without data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer, under one name for each place that holds one.

    A module that others share, as CoaT's blocks do their position encodings, is one place; a tensor that two modules
    hold is in two.
    """
    return {
        f"{path}.{name}" if path else name: tensor
        for path, part in module.named_modules()
        for name, tensor in (*part._parameters.items(), *part._buffers.items())
        if tensor is not None
    }


def call_with(module: nn.Module, stand_ins: Callable[[Tensor], Tensor], inputs: Sequence[Any]) -> Any:
    """`module(*inputs)` with the stand-in of each parameter and buffer, one for each tensor; they are put back.

    With names of its own choice torch's `functional_call` leaves stand-ins in modules that are shared (torch 2.15).
    """
    made: dict[int, Tensor] = {}
    own = own_tensors(module)
    for tensor in own.values():
        if id(tensor) not in made:
            made[id(tensor)] = stand_ins(tensor)
    replaced = {name: made[id(tensor)] for name, tensor in own.items()}
    return functional_call(module, replaced, tuple(inputs), tie_weights=False)


class Lookups(TorchDispatchMode):
    """Counts, for its block, what is looked up by indices: without data none of them is out of range."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ in ("index", "index_select", "gather", "embedding", "take")
        return func(*args, **(kwargs or {}))


@contextmanager
def without_data() -> Iterator[None]:
    """In its block tensors are made without data, and those are not filled.

    torch finds out in Python what the result of each `normal_` and `clamp_` looks like: of the time that a transformer
    without data takes to build that is four fifths.
    """
    with torch.device("meta"), _Unfilled():  # type: ignore[no-untyped-call]
        yield


class _Unfilled(TorchDispatchMode):
    """In its block a tensor without data that is filled, or changed by numbers, is taken as it is."""

    FILLING = frozenset({"uniform_", "normal_", "erfinv_", "clamp_", "mul_", "add_", "fill_", "zero_"})

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_numbers = not any(isinstance(value, Tensor) for value in args[1:])
        if func.overloadpacket.__name__ in self.FILLING and args[0].is_meta and by_numbers:
            return args[0]
        return func(*args, **(kwargs or {}))
