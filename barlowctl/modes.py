"""Training and evaluation mode, put back as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


@contextmanager
def in_mode(module: Module, *, training: bool) -> Iterator[Module]:
    """`module` in training or evaluation mode; every submodule's own mode is put back on leaving.

    The modes may differ: a frozen backbone evaluates within a method that trains.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        yield module
    finally:
        for part, mode in modes:
            part.training = mode


def is_watched(module: nn.Module) -> bool:
    """Whether a hook sees what goes into the module, what comes out, or a gradient of either."""
    forward = module._forward_hooks or module._forward_pre_hooks
    return bool(forward or module._backward_hooks or module._backward_pre_hooks)
