"""Optimizer steps that nobody waits for: whether one counts is decided on the device, and its loss is read later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from barlowctl.train.groupwise import GroupwiseOptimizer

FUSED = (torch.optim.SGD, torch.optim.AdamW)
"""torch's optimizers whose fused form heeds `found_inf`."""


def heeds(optimizer: torch.optim.Optimizer | None) -> bool:
    """Whether an optimizer's step can be told on the device to change nothing (see `defer`).

    Those of this package, torch's SGD and AdamW, and any whose own class has `found_inf`, as `GroupwiseOptimizer` has
    it. A subclass of one of these may take another step, and does not say so by what it inherits.
    """
    kind: Any = type(optimizer)
    ours = isinstance(optimizer, GroupwiseOptimizer) and kind.update.__module__.rpartition(".")[0] == __package__
    return ours or kind in FUSED or "found_inf" in vars(kind)


def defer(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Make an optimizer one whose steps nobody waits for: its rates are tensors, and `found_inf` stops it.

    Ours, and others that say so, heed `found_inf` as they are; torch's SGD and AdamW do in their fused form. Call it
    again after a state has been loaded, which brings the settings that it was saved with.
    """
    for group in optimizer.param_groups:
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=device)
        if type(optimizer) in FUSED:
            group["fused"], group["foreach"] = True, False
            if "capturable" in group:
                group["capturable"] = device.type == "cuda"
    for state in optimizer.state.values():
        if isinstance(state.get("step"), Tensor):
            state["step"] = state["step"].to(device)


def step_unless(optimizer: torch.optim.Optimizer, found_inf: Tensor) -> None:
    """The optimizer's step, which changes nothing where `found_inf` is 1 (see `defer`)."""
    if type(optimizer) is torch.optim.SGD:
        _begin_momenta(optimizer)
    held: Any = optimizer
    held.found_inf, held.grad_scale = found_inf, None
    try:
        optimizer.step()
    finally:
        del held.found_inf, held.grad_scale


def _begin_momenta(optimizer: torch.optim.SGD) -> None:
    """Momenta of parameters that have had no gradient before begin at 0, as they would by themselves.

    torch's fused form has none for a parameter that was withheld while others were not, and what lies in memory for one
    whose first step changes nothing.
    """
    for group in optimizer.param_groups:
        if group["momentum"] == 0.0:
            continue
        for p in group["params"]:
            if p.grad is not None and (state := optimizer.state[p]).get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)


def read_later(*scalars: Tensor) -> Callable[[], list[float]]:
    """Start to copy scalars of a device to the host; the returned function waits for that copy only."""
    own = torch.stack([scalar.detach() for scalar in scalars])
    if own.device.type != "cuda":
        return lambda: own.tolist()
    host = torch.empty(own.shape, dtype=own.dtype, pin_memory=True)
    host.copy_(own, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(own.device))

    def read() -> list[float]:
        copied.synchronize()
        return host.tolist()

    return read
