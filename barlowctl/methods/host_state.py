"""What of somebody's method lies on the host and changes from step to step: a CUDA graph would keep what it was."""

from __future__ import annotations

import ctypes
import random
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

PLAIN = (bool, int, float, complex, str, bytes, type(None))


def host_state(method: nn.Module, *, on_host: bool) -> dict[str, Any]:
    """Plain values of the method and its modules, and generators that draw on the host: name -> what is compared.

    Args:
        on_host: the method is trained there, where torch's generator of the host is that of dropout, too.
    """
    state: dict[str, Any] = {"Python's random": random.getstate(), "numpy.random": _of_numpy()}
    if not on_host:
        state["torch's generator of the CPU"] = _bytes(torch.get_rng_state())
    internal = {*vars(nn.Module()), "training", "doubts"}
    for path, module in method.named_modules():
        for key, value in vars(module).items():
            if key not in internal and (plain := _compared(value)) is not None:
                state[".".join(filter(None, (type(method).__name__, path, key)))] = plain
    return state


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """The first of two states that differs, in words; None: none does."""
    return next((name for name in after if name not in before or before[name] != after[name]), None)


def _bytes(state: torch.Tensor) -> bytes:
    """A generator's state, read where it lies: no operation of torch's takes part."""
    return ctypes.string_at(state.data_ptr(), state.nbytes)


def _of_numpy() -> str:
    return repr(np.random.get_state())  # noqa: NPY002 -- what somebody else may draw from


def _compared(value: Any) -> Any:
    """A copy of what can be compared; None: of another kind."""
    match value:
        case random.Random():
            return value.getstate()
        case np.random.Generator():
            return repr(value.bit_generator.state)
        case torch.Generator():
            return _bytes(value.get_state()) if value.device.type == "cpu" else None
        case list() | tuple() | deque() | set() | frozenset():
            return repr(value) if all(isinstance(item, PLAIN) for item in value) else None
        case dict():
            return repr(value) if all(isinstance(item, PLAIN) for item in value.values()) else None
    return repr(value) if isinstance(value, PLAIN) else None
