"""The section of a recipe that says which images a run reads, and how those that are not packed become pixels."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from barlowctl import value_ranges
from barlowctl.channels import MOST_CHANNELS
from barlowctl.recipe.section import Count, CountOrZero, Section


class Data(Section):
    """Which images a run reads."""

    dataset: str = Field(description="a name in the data home (see `barlowctl data get`) or a path")
    channels: Annotated[int, Field(ge=1, le=MOST_CHANNELS)] = Field(
        3, description="1: grey images, 3: RGB, others: bands of a measuring camera, as `bands` chooses them"
    )
    holdout: CountOrZero = Field(0, description="training images kept out of pre-training as queries of the online kNN")
    holdout_groups: str = Field(
        "",
        description="a regular expression: images whose names have the same match (its first group, where it has one) "
        "are held out, or trained on, together; holdout is then met as nearly as whole groups allow",
    )
    drop_last: bool = Field(False, description="drop the last, smaller batch of an epoch")
    on_unreadable: Literal["raise", "replace"] = Field(
        "raise", description="a damaged image stops the run, or another one, drawn by its key, stands in for it"
    )
    range: str = Field(
        "auto",
        description="of files that are not packed and have more than 8 bits: the values of black and white, LOW:HIGH "
        "(of several types: uint16=0:4095,float32=0:1; of each band: 0:3000/0:400/0:5000); auto: measured over the "
        "data set; per-band: measured for each band by itself; type: all that it holds",
    )
    background: str = Field(
        "white", description="behind transparent pixels of such files: white, black, grey, #RRGGBB, or none"
    )
    bands: Annotated[tuple[Count, ...], Field(max_length=MOST_CHANNELS)] = Field(
        (),
        description="of such files with more than three bands: which are red, green, blue, or which one is grey; any "
        "other number: channels of their own",
    )

    @model_validator(mode="after")
    def _groups_are_an_expression(self) -> Data:
        try:
            re.compile(self.holdout_groups)
        except re.error as error:
            raise ValueError(
                f"holdout_groups is '{self.holdout_groups}', which is no regular expression of Python's re: {error}"
            ) from None
        return self

    @model_validator(mode="after")
    def _converts(self) -> Data:
        try:
            ranges = value_ranges.parse(self.range)
        except ValueError:
            raise ValueError(f"range is '{self.range}': {value_ranges.ALLOWED}") from None
        if others := value_ranges.of_other_bands(ranges, len(self.bands)):
            raise ValueError(
                f"range is '{self.range}', of {others} bands, and bands chooses {len(self.bands)}: LOW:HIGH for "
                "all, per-band, or as many as there are bands, with / between them"
            )
        if not re.fullmatch("white|black|grey|gray|none|#[0-9a-fA-F]{6}", self.background):
            raise ValueError(f"background is '{self.background}': white, black, grey, #RRGGBB, or none")
        return self
