"""A study as a value: variants of one recipe, which of them is the baseline, and what the paper prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from barlowctl.errors import UserError
from barlowctl.study.variant import EDIT_GRID, NAME, Variant


@dataclass(frozen=True)
class Series:
    """Numbers that the paper prints for another method: variant -> top-1. `method`: its name in a recipe."""

    label: str
    points: Mapping[str, float]
    method: str


@dataclass(frozen=True)
class Study:
    """Several variants of one recipe.

    Attributes:
        source: which table or figure of the paper it is.
        baseline: the variant that the others are compared with.
        form: how it is drawn: "rows" (a table), "steps" (Fig. 3: one change after another), "curve" (over `axis`).
        axis: what `Variant.x` is, for a curve; drawn logarithmically.
        series: what the paper prints of other methods.
        note: what has to be known to read it.
    """

    name: str
    title: str
    source: str
    variants: tuple[Variant, ...]
    baseline: str
    form: Literal["rows", "steps", "curve"] = "rows"
    axis: str | None = None
    series: tuple[Series, ...] = ()
    note: str | None = None

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        for name in names:
            if not NAME.fullmatch(name):
                raise UserError(
                    f"study '{self.name}': a variant cannot be named '{name}'",
                    allowed="letters, digits and . _ + - (it names a directory)",
                    next=EDIT_GRID,
                )
            if names.count(name) > 1:
                raise UserError(f"study '{self.name}' has two variants named '{name}'", next="rename one of them")
        if self.baseline not in names:
            raise ValueError(f"study '{self.name}' has no variant '{self.baseline}', which is its baseline")
