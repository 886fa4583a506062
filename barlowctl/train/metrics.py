"""The numbers of a step, and what a loss that is not finite means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from barlowctl.methods import Terms
from barlowctl.train.progress import EpochMeans


def grad_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """Norm of the whole gradient."""
    grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return torch.stack(torch._foreach_norm(grads)).norm()


def metrics(
    terms: Terms, loss: float, norm: Tensor | None, rates: Mapping[str, float], sums: EpochMeans
) -> dict[str, float]:
    """The metrics of a logged step, under their names in metrics.jsonl. `rates`: of the groups, by their names."""
    means = sums.values()
    return {
        "loss": loss,
        **{name: value.item() for name, value in terms._asdict().items() if name != "loss"},
        **{f"lr_{name}": rate for name, rate in rates.items()},
        "grad_norm": math.nan if norm is None else norm.item(),
        "images_per_second": means["images_per_second"],
        "data_wait": means["data_wait"],
    }


def explain_divergence(loss: float, step: int, factor: float, rates: Mapping[str, float]) -> str:
    """What happened, with the learning rates; `factor`: their share of the peak."""
    named = ", ".join(f"{name} {rate:.4g}" for name, rate in rates.items())
    return (
        f"the loss is {loss} at step {step} (learning rates: {named}; {factor:.0%} of the peak), so the run "
        "stopped before the optimizer used it; the state is saved"
    )


def lower_rate(checkpoints: Path) -> str:
    """What to do about it."""
    return (
        "lower optimizer.lr or raise train.warmup_epochs and start anew; with train.precision fp16 try bf16 or fp32; "
        f"`barlowctl data preview` shows whether the images are sound; before it: {checkpoints.parent}/metrics.jsonl"
    )
