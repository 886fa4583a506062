"""How files become 8-bit pictures where there is a choice: range, background, bands. One value for every way in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from barlowctl import value_ranges
from barlowctl.channels import MOST_CHANNELS, are_bands
from barlowctl.data.images import ranges, transparency
from barlowctl.data.images.ranges import Range, Ranges
from barlowctl.errors import UserError

BANDS_ALLOWED = (
    f"numbers from 1 on, at most {MOST_CHANNELS}: three for red, green and blue (4,3,2), one for grey, others as they "
    "are (1-13)"
)
BANDS_NEXT = "--bands 3,2,1"


@dataclass(frozen=True)
class Choices:
    """As flags of `data pack` and a recipe's section `data` make them.

    range: of values beyond 8 bits (see `ranges`).    background: behind transparent pixels (see `transparency`).
    bands: which bands of an image with more than three are red, green and blue, or which one is grey, or which of them
        are channels of their own (see `channels`); from 1 on.
    """

    range: str = value_ranges.AUTO
    background: str = transparency.WHITE
    bands: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        of_kinds = {kind: of_kind.ends for kind, of_kind in ranges.parse(self.range).items()}
        if others := value_ranges.of_other_bands(of_kinds, len(self.bands)):
            raise UserError(
                f"the range is '{self.range}', of {others} bands, and {len(self.bands)} were chosen",
                allowed="LOW:HIGH for all, or as many as there are bands, with / between them",
                next=f"--range {value_ranges.PER_BAND}",
            )
        transparency.parse(self.background)
        if len(self.bands) > MOST_CHANNELS or any(band < 1 for band in self.bands):
            raise _no_bands(",".join(map(str, self.bands)))

    @property
    def channels(self) -> int:
        """Of every image, where bands are channels of their own; 0: images are grey or have colours, as they come."""
        return len(self.bands) if self.bands and are_bands(len(self.bands)) else 0


def parse_bands(text: str) -> tuple[int, ...]:
    """`4,3,2` or `1-13` as numbers.

    Raises:
        UserError: anything else.
    """
    bands: list[int] = []
    for part in (part.strip() for part in text.split(",")):
        match = re.fullmatch(r"(\d{1,5})(?:\s*-\s*(\d{1,5}))?", part)
        if match is None and part:
            raise _no_bands(text)
        if match is not None:
            first, last = int(match[1]), int(match[2] or match[1])
            if not first <= last < first + MOST_CHANNELS:
                raise _no_bands(text)
            bands += range(first, last + 1)
    return tuple(bands)


def _no_bands(text: str) -> UserError:
    return UserError(f"the bands are '{text}'", allowed=BANDS_ALLOWED, next=BANDS_NEXT)


@dataclass
class Conversion:
    """The choices, and the ranges that they come to for one data set. Without a sample: of one image alone.

    again: the conversion of the same data set for other choices; None: not known, as in another process.
    """

    choices: Choices = field(default_factory=Choices)
    ranges: Ranges = field(default_factory=Ranges)
    again: Callable[[Choices], Conversion] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.background = transparency.parse(self.choices.background)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "again": None}

    def as_dict(self) -> dict[str, Any]:
        """Plain values: the choices, and kind -> [black, white], or a list of them, one for each band."""
        used = {kind: _noted(used) for kind, used in sorted(self.ranges.used.items())}
        return {**asdict(self.choices), "bands": list(self.choices.bands), "ranges": used}

    @classmethod
    def noted(cls, values: Mapping[str, Any]) -> Conversion:
        """From `as_dict`: other images are then converted as those were."""
        choices = Choices(values["range"], values["background"], tuple(values["bands"]))
        used = {kind: _as_noted(ends) for kind, ends in values["ranges"].items()}
        return cls(choices, Ranges(choices.range, used=used))

    def for_others(self) -> Choices:
        """The choices that make of other files what these became: a range that was measured is said."""
        measured = self.choices.range in (value_ranges.AUTO, value_ranges.PER_BAND)
        if not measured or not self.ranges.used:
            return self.choices
        used = [(kind, used.ends) for kind, used in sorted(self.ranges.used.items())]
        return replace(self.choices, range=value_ranges.written(used))

    def notes(self) -> list[str]:
        """What was decided and should be said."""
        return self.ranges.descriptions()


def _noted(used: Range) -> list[float] | list[list[float]]:
    return [list(ends) for ends in used.bands] or [used.low, used.high]


def _as_noted(ends: list[Any]) -> Range:
    of_bands = ends if isinstance(ends[0], list) else [ends]
    return Range.of_bands(tuple((low, high) for low, high in of_bands), "as it was packed")
