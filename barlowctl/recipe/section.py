"""A table of a recipe, and the kinds of values that tables hold."""

from __future__ import annotations

import typing
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
# Beyond these limits nothing is meant, and single precision or 32 bits no longer hold what is computed with it.
SMALLEST, LARGEST, MOST = 1e-12, 1e6, 2**31 - 1
Positive = Annotated[float, Field(ge=SMALLEST, le=LARGEST)]
NonNegative = Annotated[float, Field(ge=0.0, le=LARGEST)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]
Factor = Annotated[float, Field(ge=0.0, le=100.0)]
Ratio = Annotated[float, Field(ge=1e-3, le=1e3)]
Mean = Annotated[float, Field(ge=-100.0, le=100.0)]
Divisor = Annotated[float, Field(ge=1e-6, le=LARGEST)]
Decline = Annotated[float, Field(ge=1e-6, le=1.0)]
Sigma = Annotated[float, Field(ge=1e-3, le=1024.0)]
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


class DoesNotFit(ValueError):
    """Values that do not fit together, and what makes them fit.

    choices: each of changes `key=value`, the first of which is taken that changes no value of the user's; none, where
    nobody knows. A key that begins with a dot is one of the section that the values are of: `.resize=256`.
    """

    def __init__(self, message: str, *choices: tuple[str, ...]) -> None:
        super().__init__(message)
        self.choices = choices

    def changes(self, section: Sequence[str], typed: Collection[str] = ()) -> tuple[str, ...]:
        """Those of one choice. section: its names; typed: keys that the user gave."""
        place = ".".join(section)
        choices = [tuple(f"{place}{c}" if c.startswith(".") else c for c in choice) for choice in self.choices]
        fitting = (c for c in choices if not {change.partition("=")[0] for change in c} & set(typed))
        return next(fitting, choices[0] if choices else ())


def in_list(values: Iterable[float]) -> str:
    """Numbers as `--set` takes them."""
    return f"[{', '.join(f'{value:g}' for value in values)}]"


class Section(BaseModel):
    """A frozen table of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python, and with it pydantic, takes true for 1: `epochs = true` would be one epoch."""
        items = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(item, bool) for item in items) and info.field_name is not None:
            kinds = set(_kinds(cls.model_fields[info.field_name].annotation))
            if kinds & {int, float} and bool not in kinds:
                number = "numbers" if items is value else "a number"
                raise PydanticCustomError("number_type", f"Input should be {number}, not true or false")
        return value


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types that a type is made of."""
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        yield from map(type, parts)
    elif parts:
        for part in parts:
            yield from _kinds(part)
    else:
        yield annotation
