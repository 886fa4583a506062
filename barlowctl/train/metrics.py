"""The numbers of a step, and what a loss that is not finite means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from barlowctl.methods import Terms
from barlowctl.train.gradient_norms import Norms
from barlowctl.train.progress import EpochMeans


def metrics(
    terms: Terms, loss: float, norms: Norms | None, rates: Mapping[str, float], sums: EpochMeans
) -> dict[str, float]:
    """The metrics of a logged step, under their names in metrics.jsonl. `rates`: of the groups, by their names."""
    means = sums.values()
    return {
        "loss": loss,
        **{name: value.item() for name, value in terms._asdict().items() if name != "loss"},
        **{f"lr_{name}": rate for name, rate in rates.items()},
        "grad_norm": math.nan if norms is None else norms.whole.item(),
        "images_per_second": means["images_per_second"],
        "data_wait": means["data_wait"],
    }


def explain_divergence(what: str, step: int, factor: float, rates: Mapping[str, float]) -> str:
    """What is not finite at which step, with the learning rates; `factor`: their share of the peak."""
    named = ", ".join(f"{name} {rate:.4g}" for name, rate in rates.items())
    return (
        f"{what} at step {step} (learning rates: {named}; {factor:.0%} of the peak), so the run "
        "stopped before the optimizer used it; the state is saved"
    )


def lower_rate(checkpoints: Path, step: int) -> str:
    """What to do about it. `step`: how many there were before; at the first one no rate is at fault."""
    if step == 0:
        return (
            "`barlowctl data preview` shows whether the images are sound; with train.precision fp16 try bf16 or fp32; "
            "in a network of your own look for what divides by 0 or takes the root of 0"
        )
    return (
        "lower optimizer.lr or raise train.warmup_epochs and start anew; with train.precision fp16 try bf16 or fp32; "
        f"`barlowctl data preview` shows whether the images are sound; before it: {checkpoints.parent}/metrics.jsonl"
    )
