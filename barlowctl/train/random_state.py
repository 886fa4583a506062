"""States of torch's random number generators: taken, and put back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def random_state(device: torch.device | None = None) -> dict[str, Tensor]:
    """States of torch's generators: the CPU's, and each CUDA device's (or only `device`'s) when CUDA is in use."""
    states = {"cpu": torch.get_rng_state()}
    if device is not None:
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            states[f"cuda:{index}"] = torch.cuda.get_rng_state(index)
    elif torch.cuda.is_available() and torch.cuda.is_initialized():
        states |= {f"cuda:{i}": torch.cuda.get_rng_state(i) for i in range(torch.cuda.device_count())}
    return states


def restore_random_state(states: Mapping[str, Tensor]) -> None:
    """Set torch's generators; states of devices that this machine lacks are left out."""
    for name, state in states.items():
        if name == "cpu":
            torch.set_rng_state(state)
        elif torch.cuda.is_available() and int(name.removeprefix("cuda:")) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, name)
