"""A table of a recipe, and the kinds of values that tables hold."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
# Beyond these limits nothing is meant, and single precision or 32 bits no longer hold what is computed with it.
LARGEST, MOST = 1e6, 2**31 - 1
Positive = Annotated[float, Field(gt=0.0, le=LARGEST)]
NonNegative = Annotated[float, Field(ge=0.0, le=LARGEST)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]
Factor = Annotated[float, Field(ge=0.0, le=100.0)]
Ratio = Annotated[float, Field(ge=1e-3, le=1e3)]
Mean = Annotated[float, Field(ge=-100.0, le=100.0)]
Divisor = Annotated[float, Field(ge=1e-6, le=LARGEST)]
Sigma = Annotated[float, Field(gt=0.0, le=1024.0)]
Count = Annotated[int, Field(ge=1, le=MOST)]
CountOrZero = Annotated[int, Field(ge=0, le=MOST)]


class WithinTraining:
    """Marks lengths and moments, in epochs, that belong to a training's length: a longer training has them longer."""


EpochsWithin = Annotated[NonNegative, WithinTraining()]


def _whole(value: float) -> int | float:
    """A whole number as an int, so that it is written as it was before there were others."""
    return int(value) if float(value).is_integer() else value


Epochs = Annotated[
    float, Field(gt=0.0, le=MOST), AfterValidator(_whole), PlainSerializer(_whole, return_type=int | float)
]


class Section(BaseModel):
    """A frozen table of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
