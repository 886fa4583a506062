"""How much memory a training step needs, before anything is allocated.

The forward pass runs on fake tensors (shapes and dtypes, no data), at the full batch size, under hooks that
see every tensor autograd saves for the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from barlowctl.model.stand_ins import call_with
from barlowctl.modes import in_mode


@dataclass(frozen=True)
class Footprint:
    """Bytes. The peak of a step is somewhat higher: gradients of activations and workspaces come and go."""

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    buffers: int = 0

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.optimizer + self.activations + self.buffers


def estimate_memory(
    module: nn.Module,
    inputs: Callable[[], Sequence[Any]],
    *,
    optimizer_slots: float,
    autocast: torch.dtype | None = None,
    copies: Sequence[Tensor] = (),
) -> Footprint:
    """Memory of one training step of `module(*inputs())`.

    Args:
        module: called in training mode; every tensor that its output needs for a backward pass is counted
            once, whatever the number of views on it. Parameters, buffers and batch statistics are not
            changed.
        inputs: makes the arguments; called where tensors have no data, so a factory such as
            `lambda: (torch.zeros(2048, 224, 224, 3, dtype=torch.uint8),)` costs nothing.
        optimizer_slots: numbers the optimizer keeps per parameter (momentum: 1, Adam: 2).
        autocast: torch.bfloat16 or torch.float16 when the forward pass runs under autocast.
        copies: tensors of which there is a copy beside; they count as buffers, as the module's own do.
    """
    parameters = {key: value for key, value in module.named_parameters() if value.requires_grad}
    weights = sum(p.numel() * p.element_size() for p in module.parameters())
    trained = sum(p.numel() * p.element_size() for p in parameters.values())
    return Footprint(
        parameters=weights,
        gradients=trained,
        optimizer=round(optimizer_slots * trained),
        activations=_saved_bytes(module, inputs, autocast),
        buffers=sum(b.numel() * b.element_size() for b in (*module.buffers(), *copies)),
    )


def _saved_bytes(module: nn.Module, inputs: Callable[[], Sequence[Any]], autocast: torch.dtype | None) -> int:
    saved: dict[int, Tensor] = {}
    fixed: set[int] = set()

    def remember(tensor: Tensor) -> Tensor:
        saved.setdefault(_storage(tensor), tensor)
        return tensor

    def stand_in(tensor: Tensor) -> Tensor:
        made = torch.empty_strided(
            tensor.shape, tensor.stride(), dtype=tensor.dtype, requires_grad=tensor.requires_grad
        )
        fixed.add(_storage(made))
        return made

    casting: AbstractContextManager[Any] = nullcontext() if autocast is None else torch.autocast("cpu", dtype=autocast)
    with FakeTensorMode():
        arguments = tuple(inputs())
        hooks = torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor)
        with in_mode(module, training=True), hooks, casting:
            output = call_with(module, stand_in, arguments)
        del output
        return sum(tensor.untyped_storage().nbytes() for key, tensor in saved.items() if key not in fixed)


def _storage(tensor: Tensor) -> int:
    """Identity of a tensor's memory, valid while the tensor is alive."""
    return tensor.untyped_storage()._cdata
