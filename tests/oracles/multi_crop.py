"""Multi-crop Barlow Twins by its double sum over anchors and views. Knows nothing of our code."""

from __future__ import annotations

import numpy as np

from tests.oracles.loss import terms


def averaged_terms(views: list[np.ndarray], **options: object) -> tuple[float, float]:
    """Invariance and redundancy term, averaged over both anchors and, for each, over the other views."""
    invariance = redundancy = 0.0
    for g in (0, 1):
        for v in range(len(views)):
            if v != g:
                pair = terms(views[g], views[v], **options)  # type: ignore[arg-type]
                invariance += pair[0] / (len(views) - 1) / 2
                redundancy += pair[1] / (len(views) - 1) / 2
    return invariance, redundancy


def loss(views: list[np.ndarray], *, lambd: float, terms_used: str = "both", **options: object) -> float:
    invariance, redundancy = averaged_terms(views, **options)
    return (terms_used != "redundancy") * invariance + (terms_used != "invariance") * lambd * redundancy
