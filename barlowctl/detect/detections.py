"""What a detector says of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Detections:
    """The objects that were detected in one image, in pixels of the original image, best scores first.

    Attributes:
        boxes: float32 (m, 4): left, top, right, bottom, within the image.
        scores: float32 (m,). labels: int64 (m,), 0..K-1.
        masks: of each its region as COCO's run lengths (`size`, `counts`), or None.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: list[dict[str, Any] | None]

    def __len__(self) -> int:
        return len(self.labels)
