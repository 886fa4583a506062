"""How a detector is trained and tested on a backbone: the protocols of the paper's table 4 as values.

Sources: Barlow Twins, appendix C.2, and what it follows: detectron2's configurations in MoCo's repository
(`detection/configs/pascal_voc_R_50_C4_24k_moco.yaml`, `coco_R_50_C4_2x.yaml` and their bases).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from barlowctl.recipe.section import Count, CountOrZero, Decay, Decline, NonNegative, Positive, Probability, Section


class DetectionProtocol(Section):
    """SGD of a whole detector, and how it is tested."""

    name: str
    iterations: Count = Field(24_000, description="one batch each")
    batch_size: Count = Field(16, description="images, over all devices")
    lr: Positive = Field(0.1, description="of that batch")
    warmup_iterations: CountOrZero = 1000
    warmup_start: Probability = Field(0.333, description="share of the rate at the first iteration")
    drops: tuple[CountOrZero, ...] = Field((), description="iterations at which the rate is multiplied by drop_factor")
    drop_factor: Decline = 0.1
    momentum: Decay = 0.9
    weight_decay: NonNegative = Field(1e-4, description="of all but the scales and shifts of norms")
    short_sides: Annotated[tuple[Count, ...], Field(min_length=1)] = Field(
        (480,), description="of training images, in pixels; one is drawn for each"
    )
    longest: Count = Field(1333, description="limit of the long side, in pixels")
    test_short_side: Count = 800
    flip: Probability = 0.5
    masks: bool = Field(False, description="Mask R-CNN in place of Faster R-CNN")
    statistics: CountOrZero = Field(
        200, description="batches over which batch norm's statistics are taken before a test (PreciseBN); 0: as trained"
    )
    test_every: CountOrZero = Field(0, description="iterations between tests while training; 0: only at the end")
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.warmup_iterations > self.iterations:
            raise ValueError(f"at most the {self.iterations:,} iterations of the training")
        return self

    def describe(self) -> str:
        """One line for people."""
        warmup = f"warm-up of {self.warmup_iterations:,} from {self.warmup_start:g}" if self.warmup_iterations else ""
        drops = ", ".join(f"{drop:,}" for drop in self.drops)
        sides = (
            f"{min(self.short_sides)} to {max(self.short_sides)}" if len(self.short_sides) > 1 else self.short_sides[0]
        )
        parts = (
            f"SGD, {self.iterations:,} iterations, batch {self.batch_size}, lr {self.lr:g}",
            warmup,
            f"times {self.drop_factor:g} at {drops}" if drops else "",
            f"momentum {self.momentum:g}, weight decay {self.weight_decay:g}",
            f"short side {sides} (test {self.test_short_side}), long side at most {self.longest}",
        )
        return ", ".join(part for part in parts if part)


DETECTION_PROTOCOLS = {
    "voc0712": DetectionProtocol(
        name="voc0712", drops=(18_000, 22_000), short_sides=tuple(range(480, 801, 32))
    ),
    "coco": DetectionProtocol(
        name="coco", iterations=90_000, lr=0.03, warmup_start=0.001, drops=(60_000, 80_000),
        short_sides=tuple(range(640, 801, 32)), masks=True,
    ),
}  # fmt: skip


def changed(protocol: DetectionProtocol, values: Mapping[str, Any]) -> DetectionProtocol:
    """A protocol with other values, validated again; what follows from them and is not among them moves along.

    Another batch keeps the number of images: batch / k, lr / k, iterations x k (Goyal et al. 2017, arXiv 1706.02677).
    Drops move with the iterations, and the warm-up too, except where the training is only made longer.

    Raises:
        pydantic.ValidationError: a value that is not allowed.
    """
    own = protocol.model_dump()
    # Values as they are validated, and the fit of the warm-up, which is not known yet, left for the end.
    given = DetectionProtocol.model_validate({**own, **values, "warmup_iterations": 0})
    k = protocol.batch_size / given.batch_size
    own |= {"lr": protocol.lr / k, "iterations": max(1, round(protocol.iterations * k))}
    iterations = given.iterations if "iterations" in values else own["iterations"]
    longer = iterations / protocol.iterations
    own["drops"] = tuple(round(drop * longer) for drop in protocol.drops)
    own["warmup_iterations"] = round(protocol.warmup_iterations * min(longer, k))
    return DetectionProtocol.model_validate({**own, **values})
