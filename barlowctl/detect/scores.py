"""How good detections are: average precision, as a whole and by class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DetectionScores:
    """Average precision, in percent; NaN where it is not defined (no object of that size or class).

    Attributes:
        box: by name: "AP" (mean over IoU .50:.05:.95), "AP50", "AP75", and what else a metric has.
        mask: the same of outlines; None: they were not measured.
        per_class: class name -> "AP", "AP50", "AP75" of boxes, and with outlines "mask AP", "mask AP50", "mask AP75".
    """

    box: Mapping[str, float]
    mask: Mapping[str, float] | None
    per_class: Mapping[str, Mapping[str, float]]
