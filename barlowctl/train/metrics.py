"""The numbers of a step, and what a loss that is not finite means."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from barlowctl.train.progress import EpochMeans


def grad_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """Norm of the whole gradient."""
    grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return torch.stack(torch._foreach_norm(grads)).norm()


def metrics(
    terms: Any, loss: float, norm: Tensor | None, optimizer: torch.optim.Optimizer, sums: EpochMeans
) -> dict[str, float]:
    """The metrics of a logged step, under their names in metrics.jsonl."""
    rates = {f"lr_{group['name']}": group["lr"] for group in optimizer.param_groups}
    means = sums.values()
    return {
        "loss": loss,
        **{name: value.item() for name, value in terms._asdict().items() if name != "loss"},
        **rates,
        "grad_norm": math.nan if norm is None else norm.item(),
        "images_per_second": means["images_per_second"],
        "data_wait": means["data_wait"],
    }


def explain_divergence(loss: float, step: int, factor: float, optimizer: torch.optim.Optimizer) -> str:
    """What happened, with the learning rates; `factor`: their share of the peak."""
    rates = ", ".join(f"{group['name']} {group['lr']:.4g}" for group in optimizer.param_groups)
    return (
        f"the loss is {loss} at step {step} (learning rates: {rates}; {factor:.0%} of the peak), so the run "
        "stopped before the optimizer used it; the state is saved"
    )


def lower_rate(checkpoints: Path) -> str:
    """What to do about it."""
    return (
        "lower optimizer.lr or raise train.warmup_epochs and start anew; with train.precision fp16 try bf16 or fp32; "
        f"`barlowctl data preview` shows whether the images are sound; before it: {checkpoints.parent}/metrics.jsonl"
    )
