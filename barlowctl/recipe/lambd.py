"""The weight of the redundancy reduction term: the authors' value, and by the width of the projector."""

from __future__ import annotations

import math
from typing import Literal

LAMBD, PAPER_WIDTH = 0.0051, 8192
"""The authors' weight of the redundancy term, and the projector that it was chosen for."""
LAMBD_IS = "weight of the redundancy reduction term; auto: 0.0051 x sqrt(8192 / width of the projector)"


def lambd_of(lambd: float | Literal["auto"], width: int) -> tuple[float, str]:
    """The weight that is meant for embeddings of `width` dimensions, and the rule that it is from, if any.

    "auto" keeps neither the weight nor the ratio of the two sums' sizes (`LAMBD 8192 / width`): measured, the best
    weight lies between the two (`docs/objective.md`, "lambd and the projector's width").
    """
    if lambd != "auto":
        return lambd, ""
    return LAMBD * math.sqrt(PAPER_WIDTH / width), f"auto: {LAMBD:g} x sqrt({PAPER_WIDTH} / {width})"
