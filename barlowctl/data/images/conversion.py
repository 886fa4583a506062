"""How files become 8-bit pictures where there is a choice: range, background, bands. One value for every way in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from barlowctl.data.images import ranges, transparency
from barlowctl.data.images.ranges import Range, Ranges
from barlowctl.errors import UserError

BANDS_ALLOWED = "three numbers from 1 on, e.g. 4,3,2, or one"
BANDS_NEXT = "--bands 3,2,1"


@dataclass(frozen=True)
class Choices:
    """As flags of `data pack` and a recipe's section `data` make them.

    range: of values beyond 8 bits (see `ranges`).    background: behind transparent pixels (see `transparency`).
    bands: which bands of an image with more than three are red, green and blue, or which one is grey; from 1 on.
    """

    range: str = ranges.AUTO
    background: str = transparency.WHITE
    bands: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        ranges.parse(self.range)
        transparency.parse(self.background)
        if len(self.bands) not in (0, 1, 3) or any(band < 1 for band in self.bands):
            text = ",".join(map(str, self.bands))
            raise UserError(f"the bands are '{text}'", allowed=BANDS_ALLOWED, next=BANDS_NEXT)


def parse_bands(text: str) -> tuple[int, ...]:
    """`4,3,2` as numbers.

    Raises:
        UserError: anything else.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and len(part) < 6 for part in parts):
        raise UserError(f"the bands are '{text}'", allowed=BANDS_ALLOWED, next=BANDS_NEXT)
    return tuple(int(part) for part in parts)


@dataclass
class Conversion:
    """The choices, and the ranges that they come to for one data set. Without a sample: of one image alone."""

    choices: Choices = field(default_factory=Choices)
    ranges: Ranges = field(default_factory=Ranges)

    def __post_init__(self) -> None:
        self.background = transparency.parse(self.choices.background)

    def as_dict(self) -> dict[str, Any]:
        """Plain values: the choices, and kind -> [black, white]."""
        used = {kind: [used_range.low, used_range.high] for kind, used_range in sorted(self.ranges.used.items())}
        return {**asdict(self.choices), "bands": list(self.choices.bands), "ranges": used}

    @classmethod
    def noted(cls, values: Mapping[str, Any]) -> Conversion:
        """From `as_dict`: other images are then converted as those were."""
        choices = Choices(values["range"], values["background"], tuple(values["bands"]))
        used = {kind: Range(low, high, "as it was packed") for kind, (low, high) in values["ranges"].items()}
        return cls(choices, Ranges(choices.range, used=used))

    def for_others(self) -> Choices:
        """The choices that make of other files what these became: a range that was measured is said."""
        if self.choices.range != ranges.AUTO or not self.ranges.used:
            return self.choices
        of_kinds = (
            f"{kind}={_number(used.low)}:{_number(used.high)}" for kind, used in sorted(self.ranges.used.items())
        )
        return replace(self.choices, range=",".join(of_kinds))

    def notes(self) -> list[str]:
        """What was decided and should be said."""
        return self.ranges.descriptions()


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)
