"""Whether a measurement can mean anything: why an accuracy is not reported, as one sentence."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 1e-5
"""Of the largest feature: a spread over the images that is smaller is that of float32's arithmetic."""


def of_labels(bank: Tensor, queries: Tensor) -> str | None:
    """Why an accuracy over these labels `(N,)` and `(Q,)` would say nothing about the features; None: it would."""
    if len(bank) == 0 or len(queries) == 0:
        return "there are no labelled images"
    classes = bank.unique()
    if len(classes) < 2:
        return f"all {len(bank):,} labelled images are of one class"
    if not torch.isin(queries, classes).any():
        return "none of the classes of the images asked about is among those of the training images"
    return None


def of_held_out(bank: Tensor) -> str | None:
    """Why a classifier whose settings are chosen on a part of the training images cannot be trained; None: it can."""
    if len(bank.unique()) == len(bank):
        return "no class has two training images, so that none can be held out to choose the learning rate"
    return None


def of_features(features: Tensor) -> str | None:
    """Why nothing can be told apart by these features `(N, F)`; None: it can be tried."""
    if not features.isfinite().all():
        return "the features contain NaN or infinity"
    spread = (features.amax(dim=0) - features.amin(dim=0)).max()
    if float(spread) <= ROUNDING * float(features.abs().max()):
        return "the features of all images are the same (collapse)"
    return None
