"""Which values are black and white in images that hold more than 8 bits: one range for a whole data set, and said.

The type of a file says little: cameras and scanners put 10, 12 or 14 bits into 16, satellites reflectances of 0 to
10,000, programs 0 to 255 into 32 bits or floats. Stretching each image by its own smallest and largest value would
change what brightness means from image to image. So a range comes from, in this order,

1. what somebody sets: LOW:HIGH for all, uint16=LOW:HIGH for one type, or `type` for all that a type can hold;
2. what a file states and cannot be otherwise: BitsPerSample of 12, say;
3. `auto`: the values of a sample of the data set, per type: the smallest of 8, 10, 12, 14 and 16 bits that holds them
   all; floats of 0 to 1 and of 0 to 255 as such. Anything else is refused with the values that were found.

8-bit images are never touched.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from barlowctl.amounts import counted
from barlowctl.data.images.unreadable import Unreadable
from barlowctl.errors import UserError
from barlowctl.value_ranges import ALLOWED, AUTO, TYPE
from barlowctl.value_ranges import parse as parse_setting

DEPTHS = (8, 10, 12, 14, 16)  # bits that devices have
_AT_ONCE = 1 << 22  # values that are converted together: their copies take 8 bytes each


@dataclass(frozen=True)
class Deep:
    """Values as a file holds them, not yet 8 bits.

    values: (H, W) or (H, W, C), whole numbers or floats.    kind: whose range is one: "uint16".
    bits: how many bits of them are used where the file says so for certain; 0: not said.
    significant: PNG's sBIT; its writer either scaled values to the whole type, as the standard asks, or did not.
    white: the largest value, where the file says it and it is not that of a number of bits; 0: not said.
    nodata: the value that stands for nothing (GDAL's tag): it does not count, and is black.
    """

    values: np.ndarray
    kind: str
    bits: int = 0
    significant: int = 0
    white: int = 0
    nodata: float | None = None


@dataclass
class Measured:
    """Smallest and largest value of a kind in a sample, whether all are whole numbers, and of how many images."""

    low: float
    high: float
    whole: bool
    images: int = 1

    @classmethod
    def of(cls, values: np.ndarray, nodata: float | None = None) -> Measured:
        """Of one image; not-a-number, infinite values and `nodata` do not count."""
        if nodata is not None and not (values := values[values != nodata]).size:
            return cls(0.0, 0.0, True)
        if values.dtype.kind == "f":
            finite = values[np.isfinite(values)]
            whole = bool((finite == np.rint(finite)).all())
            return cls(float(finite.min()), float(finite.max()), whole) if finite.size else cls(0.0, 0.0, True)
        return cls(float(values.min()), float(values.max()), True)

    def join(self, other: Measured) -> None:
        """Add another image."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.whole, self.images = self.whole and other.whole, self.images + other.images


@dataclass(frozen=True)
class Range:
    """Values of black and white, and where they come from. text: in other words than the two values."""

    low: float
    high: float
    why: str
    text: str = ""

    def __str__(self) -> str:
        return self.text or f"{number(self.low)} to {number(self.high)}"

    def to_8_bits(self, values: np.ndarray, nodata: float | None = None) -> tuple[np.ndarray, bool]:
        """round(255 (v - low) / (high - low)), uint8, and whether a value lay outside and was cut off."""
        made, cut = np.empty(values.shape, np.uint8), False
        table = _scaled(np.arange(1 << 16), self.low, self.high) if values.dtype == np.uint16 else None
        rows = max(1, _AT_ONCE // max(1, values[:1].size))
        for top in range(0, len(values), rows):
            part = values[top : top + rows]
            if part.dtype.kind == "f":
                part = np.nan_to_num(part, nan=self.low)
            missing = None if nodata is None else part == nodata
            valid = part if missing is None else part[~missing]
            cut = cut or bool(valid.size and (valid.min() < self.low or valid.max() > self.high))
            made[top : top + rows] = table[part] if table is not None else _scaled(part, self.low, self.high)
            if missing is not None:
                made[top : top + rows][missing] = 0
        return made, cut


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
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
        return {kind: Range(low, high, "as it was set") for kind, (low, high) in parse_setting(text).items()}
    except ValueError:
        raise UserError(f"the range is '{text}'", allowed=ALLOWED, next=f"--range {AUTO}") from None


@dataclass
class Ranges:
    """The ranges of one data set, one for each kind of values.

    Attributes:
        setting: auto, type, LOW:HIGH, or KIND=LOW:HIGH of several types.
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
        if deep.white and chosen is None:
            return Range(0.0, float(deep.white), "each file says it", "0 to the largest value that the file states")
        if kind not in self.used:
            self.used[kind] = chosen or self._decide(deep, kind)
        return self.used[kind]

    def measured(self) -> dict[str, Measured]:
        """Kind -> what the sample holds."""
        with self._lock:
            if self._measured is None:
                self._measured = {}
                for deep in self.sample() if self.sample is not None and "" not in self._set else ():
                    measured, kind = Measured.of(deep.values, deep.nodata), kind_of(deep)
                    if kind in self._measured:
                        self._measured[kind].join(measured)
                    else:
                        self._measured[kind] = measured
                        self._examples[kind] = replace(deep, values=deep.values[:1, :1].copy())
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
        return [
            f"{kind} values: {number(used.low)} is black, {number(used.high)} is white ({used.why}); to set another "
            f"range: --range {kind.partition(' ')[0] + '=' if several else ''}LOW:HIGH of data pack, data.range of a "
            "recipe"
            for kind, used in sorted(self.used.items())
        ]

    def _decide(self, deep: Deep, kind: str) -> Range:
        dtype = deep.values.dtype
        if self.setting == TYPE:
            return Range(0.0, _largest(dtype, deep.bits), "all that the type holds")
        if deep.bits:
            return Range(0.0, float(2**deep.bits - 1), f"the files say {deep.bits} bits")
        measured = self.measured().get(kind)
        alone = measured is None
        measured = measured or Measured.of(deep.values, deep.nodata)
        of = "this image" if alone or measured.images == 1 else counted(measured.images, "image")
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

    def _advised(self, kind: str, measured: Measured) -> str:
        """The setting that would do: beside what is set already, and of this type alone where there are others."""
        advised = setting(measured.low, measured.high if measured.low < measured.high else measured.low + 1)
        others = {other.partition(" ")[0] for other in self._measured or ()} - {kind}
        if not self._set and not others:
            return advised
        set_already = [f"{other}={setting(chosen.low, chosen.high)}" for other, chosen in self._set.items()]
        return ",".join([*set_already, f"{kind}={advised}"])


def kind_of(deep: Deep) -> str:
    """What has one range: the type, and the bits that a file states."""
    if deep.bits:
        return f"{deep.kind} ({deep.bits} bits)"
    return f"{deep.kind} ({deep.significant} significant bits)" if deep.significant else deep.kind


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
