"""Which values are black and white in images that hold more than 8 bits: one range for a whole data set, and said.

The type of a file says little: cameras and scanners put 10, 12 or 14 bits into 16, satellites reflectances of 0 to
10,000, programs 0 to 255 into 32 bits or floats. Stretching each image by its own smallest and largest value would
change what brightness means from image to image. So a range comes from, in this order,

1. what somebody sets: LOW:HIGH for all, uint16=LOW:HIGH for one type, LOW:HIGH/LOW:HIGH/... for each band, `type` for
   all that a type can hold, or `per-band`: measured over a sample of the data set, by type, for each band by itself;
2. what a file states and cannot be otherwise: BitsPerSample of 12, say;
3. `auto`: the values of a sample of the data set, per type: the smallest of 8, 10, 12, 14 and 16 bits that holds them
   all; floats of 0 to 1 and of 0 to 255 as such. Anything else is refused with the values that were found.

8-bit images are never touched.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from barlowctl.amounts import counted
from barlowctl.data.images.band_values import LEFT_OUT, BandValues
from barlowctl.data.images.deep import DEPTHS, Deep, Measured, kind_of
from barlowctl.data.images.unreadable import Unreadable
from barlowctl.errors import UserError
from barlowctl.value_ranges import ALLOWED, AUTO, PER_BAND, TYPE, Ends, of_bands
from barlowctl.value_ranges import parse as parse_setting

_AT_ONCE = 1 << 22  # values that are converted together: their copies take 8 bytes each


@dataclass(frozen=True)
class Range:
    """Values of black and white, and where they come from.

    bands: those of each band, where each has its own; `low` and `high` are then the smallest and the largest of them.
    text: in other words than the values.
    """

    low: float
    high: float
    why: str
    text: str = ""
    bands: tuple[Ends, ...] = ()

    @classmethod
    def of_bands(cls, bands: tuple[Ends, ...], why: str) -> Range:
        """A range for each band; of a single band a range as others are."""
        low, high = min(low for low, _ in bands), max(high for _, high in bands)
        return cls(low, high, why, bands=bands if len(bands) > 1 else ())

    @property
    def ends(self) -> tuple[Ends, ...]:
        """Of each band, or of all bands together."""
        return self.bands or ((self.low, self.high),)

    def __str__(self) -> str:
        if self.bands:
            return f"a range for each of {len(self.bands)} bands"
        return self.text or f"{number(self.low)} to {number(self.high)}"

    def to_8_bits(self, values: np.ndarray, nodata: float | None = None) -> tuple[np.ndarray, bool]:
        """round(255 (v - low) / (high - low)), uint8, and whether a value lay outside and was cut off."""
        made, cut = np.empty(values.shape, np.uint8), False
        low, high = np.array(self.ends).T if self.bands else (self.low, self.high)
        one_table = values.dtype == np.uint16 and values.size > 1 << 16 and not self.bands
        table = _scaled(np.arange(1 << 16), low, high) if one_table else None
        rows = max(1, _AT_ONCE // max(1, values[:1].size))
        for top in range(0, len(values), rows):
            part = values[top : top + rows]
            if part.dtype.kind == "f":
                part = np.where(np.isnan(part), low, part)
            missing = None if nodata is None else part == nodata
            valid = part if missing is None else np.where(missing, low, part)
            cut = cut or bool((valid < low).any() or (valid > high).any())
            made[top : top + rows] = table[part] if table is not None else _scaled(part, low, high)
            if missing is not None:
                made[top : top + rows][missing] = 0
        return made, cut


def _scaled(values: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    scaled = (np.clip(values.astype(np.float64), low, high) - low) * 255.0 / (high - low)
    return np.floor(scaled + 0.5).astype(np.uint8)


def number(value: float) -> str:
    """As people write it."""
    return f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"


def setting(low: float, high: float) -> str:
    """LOW:HIGH as it is typed."""
    return ":".join(str(int(v)) if float(v).is_integer() else repr(float(f"{v:.6g}")) for v in (low, high))


def parse(text: str) -> dict[str, Range]:
    """What `--range` or `data.range` sets, by type ("uint16") or kind, or under "" for all; nothing of auto and type.

    Raises:
        UserError: none of these.
    """
    try:
        return {kind: Range.of_bands(ends, "as it was set") for kind, ends in parse_setting(text).items()}
    except ValueError:
        raise UserError(f"the range is '{text}'", allowed=ALLOWED, next=f"--range {AUTO}") from None


@dataclass
class Ranges:
    """The ranges of one data set, one for each kind of values.

    Attributes:
        setting: see `value_ranges`.
        sample: values of some images of the data set, read when they are needed first.
        used: kind -> the range that was taken.
    """

    setting: str = AUTO
    sample: Callable[[], Iterable[Deep]] | None = None
    used: dict[str, Range] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._set = parse(self.setting)
        self._of_a_set = self.sample is not None  # and not of one image alone
        self._measured: dict[str, Measured] | None = None
        self._examples: dict[str, Deep] = {}
        self._of_bands: dict[str, tuple[Ends, ...]] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        self.measured()  # once, and not in each worker process
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "sample")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.sample, self._lock = None, threading.Lock()

    def of(self, deep: Deep) -> Range:
        """The range of an image's values.

        Raises:
            Unreadable: it is not known; with what was found and how to set it.
        """
        kind = kind_of(deep)
        chosen = next((self._set[of] for of in (kind, deep.kind, "") if of in self._set), None)
        if deep.white and chosen is None and self.setting != PER_BAND:
            return Range(0.0, float(deep.white), "each file says it", "0 to the largest value that the file states")
        if kind not in self.used:
            self.used[kind] = chosen or self._decide(deep, kind)
        if (used := self.used[kind]).bands and len(used.bands) != deep.bands:
            raise Unreadable(f"it has {counted(deep.bands, 'band')}, and the range is of {len(used.bands)}")
        return used

    def measured(self) -> dict[str, Measured]:
        """Kind -> what the sample holds."""
        with self._lock:
            if self._measured is None:
                self._measured, bands = {}, defaultdict[str, BandValues](BandValues)
                for deep in self.sample() if self.sample is not None and "" not in self._set else ():
                    measured, kind = Measured.of(deep.values, deep.nodata), kind_of(deep)
                    if self.setting == PER_BAND:
                        bands[kind].add(deep.values, deep.nodata)
                    if kind in self._measured:
                        self._measured[kind].join(measured)
                    else:
                        self._measured[kind] = measured
                        self._examples[kind] = replace(deep, values=deep.values[:1, :1].copy())
                self._of_bands = {kind: values.ends() for kind, values in bands.items()}
            return self._measured

    def decide(self) -> list[str]:
        """Decide the range of every kind in the sample now, before the first image needs one.

        Returns what is to be said of kinds whose range is not known: their images cannot be read.
        """
        unknown = []
        self.measured()
        for example in self._examples.values():
            try:
                self.of(example)
            except Unreadable as error:
                unknown.append(str(error))
        return unknown

    def descriptions(self) -> list[str]:
        """A line for each kind that was met: its range, why, and how to set another."""
        several = len({kind.partition(" ")[0] for kind in self.used}) > 1
        lines = []
        for kind, used in sorted(self.used.items()):
            of = f"{kind.partition(' ')[0]}=" if several else ""
            if used.bands:
                values = f"black and white of the {len(used.bands)} bands are {of_bands(used.bands)}"
                other = f"others: --range {of}LOW:HIGH/LOW:HIGH/..."
            else:
                values = f"{number(used.low)} is black, {number(used.high)} is white"
                other = f"another range: --range {of}LOW:HIGH"
            lines.append(f"{kind} values: {values} ({used.why}); to set {other} of data pack, data.range of a recipe")
        return lines

    def _decide(self, deep: Deep, kind: str) -> Range:
        dtype = deep.values.dtype
        if self.setting == TYPE:
            return Range(0.0, _largest(dtype, deep.bits), "all that the type holds")
        if deep.bits and self.setting != PER_BAND:
            return Range(0.0, float(2**deep.bits - 1), f"the files say {deep.bits} bits")
        measured = self.measured().get(kind)
        alone = measured is None
        measured = measured or Measured.of(deep.values, deep.nodata)
        of = "this image" if alone or measured.images == 1 else counted(measured.images, "image")
        if self.setting == PER_BAND and not (alone and self._of_a_set):
            return Range.of_bands(
                self._ends_of_bands(deep, kind), f"{LEFT_OUT:.1%} of the values of {of} lie beyond each end"
            )
        decided = _by_values(measured, dtype, deep.significant)
        if decided is None or (alone and self._of_a_set):
            values = f"{kind} values {number(measured.low)} to {number(measured.high)}"
            where = f"of {of}" + ("; none of the images looked at is of this type" if alone and self._of_a_set else "")
            advised = self._advised(deep.kind, measured)
            raise Unreadable(
                f"{values} {where}: which are black and white is not known; set the range, e.g. {advised} "
                "(--range of data pack, data.range of a recipe)",
                setting=f"range={advised}",
            )
        low, high, why = decided
        return Range(low, high, f"{why}: the largest value of {of} is {number(measured.high)}")

    def _ends_of_bands(self, deep: Deep, kind: str) -> tuple[Ends, ...]:
        if kind not in self._of_bands:
            of_this_image = BandValues()
            of_this_image.add(deep.values, deep.nodata)
            return of_this_image.ends()
        return self._of_bands[kind]

    def _advised(self, kind: str, measured: Measured) -> str:
        """The setting that would do: beside what is set already, and of this type alone where there are others."""
        advised = setting(measured.low, measured.high if measured.low < measured.high else measured.low + 1)
        others = {other.partition(" ")[0] for other in self._measured or ()} - {kind}
        if not self._set and not others:
            return advised
        set_already = [f"{other}={of_bands(chosen.ends)}" for other, chosen in self._set.items()]
        return ",".join([*set_already, f"{kind}={advised}"])


def _by_values(measured: Measured, dtype: np.dtype, significant: int) -> tuple[float, float, str] | None:
    """(low, high, why) from the values of a sample; None where they tell nothing."""
    if measured.low < 0:
        return None
    floats = dtype.kind == "f"
    if floats and measured.high <= 1:
        return 0.0, 1.0, "floats of 0 to 1"
    if significant:
        bits = significant if measured.high < 2**significant else 8 * dtype.itemsize
        return 0.0, float(2**bits - 1), f"{bits} bits"
    if measured.high == 0:
        return 0.0, _largest(dtype, 0), "nothing but zeros"
    if not measured.whole:
        return (0.0, 255.0, "floats of 0 to 255") if 128 <= measured.high <= 255 else None
    bits = next((bits for bits in DEPTHS if measured.high < 2**bits), 0)
    return (0.0, float(2**bits - 1), f"{bits} bits") if bits else None


def _largest(dtype: np.dtype, bits: int) -> float:
    if bits:
        return float(2**bits - 1)
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)
