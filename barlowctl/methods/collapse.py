"""When a method that has no negatives has collapsed: what its metrics say."""

from __future__ import annotations

from collections.abc import Mapping

COLLAPSED = 0.1
"""Spread of directions below which embeddings of different images are the same: healthy runs keep it above 0.5."""


def collapsed(values: Mapping[str, float]) -> str | None:
    """What is to be said of metrics whose `spread` is near 0; None where it is not."""
    if values.get("spread", 1.0) >= COLLAPSED:
        return None
    return (
        f"the embeddings have collapsed: those of different images point the same way (spread {values['spread']:.3f}, "
        "healthy near 1), whatever the loss says; a lower optimizer.lr, or a longer warm-up, may keep them apart"
    )
