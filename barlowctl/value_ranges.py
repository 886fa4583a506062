"""Which values of an image are black and white, as it is typed: `--range` of `data pack`, `data.range` of a recipe."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

AUTO, TYPE, PER_BAND = "auto", "type", "per-band"
NAMED = (AUTO, TYPE, PER_BAND)
ALLOWED = (
    "auto, type, per-band, or LOW:HIGH, the values of black and white, e.g. 0:4095; of several types in one data set "
    "uint16=0:4095,float32=0:1; of each band 0:3000/0:400/0:5000"
)

Ends = tuple[float, float]

_KIND = r"[a-z]+\d+(?: \(\d+ (?:significant )?bits\))?"
_ENDS = r"([-+.\deE]+):([-+.\deE]+)"


def parse(text: str) -> dict[str, tuple[Ends, ...]]:
    """LOW and HIGH, once or for each band, by the kind of values ("uint16", or "uint16 (12 bits)" where files state
    their bits), or under "" for all; nothing of `NAMED`.

    Raises:
        ValueError: none of these, the same kind twice, or an end that is not below the other.
    """
    made: dict[str, tuple[Ends, ...]] = {}
    for part in () if text in NAMED else text.split(","):
        match = re.fullmatch(rf"(?:({_KIND})=)?([^=]+)", part.strip())
        if match is None:
            raise ValueError(f"'{part}' is not LOW:HIGH")
        kind = match[1] or ""
        if kind in made or (made and not kind) or "" in made:
            raise ValueError(f"'{text}' names values twice")
        made[kind] = tuple(_ends(ends) for ends in match[2].split("/"))
    return made


def of_other_bands(ranges: Mapping[str, tuple[Ends, ...]], bands: int) -> int:
    """How many bands ranges are of, where those are others than the bands that were chosen (0: none were); else 0."""
    numbers = {len(ends) for ends in ranges.values()} - {1, bands}
    return max(numbers) if bands and numbers else 0


def _ends(text: str) -> Ends:
    match = re.fullmatch(_ENDS, text.strip())
    low, high = (float(match[1]), float(match[2])) if match else (0.0, 0.0)
    if not low < high or not math.isfinite(high - low):
        raise ValueError(f"'{text}' is not LOW:HIGH")
    return low, high


def written(used: Iterable[tuple[str, tuple[Ends, ...]]]) -> str:
    """Kinds and their ends as `parse` reads them; of a type alone where all of its kinds have the same ends."""
    by_type: dict[str, dict[str, tuple[Ends, ...]]] = {}
    for kind, ends in used:
        by_type.setdefault(kind.partition(" ")[0], {})[kind] = ends
    parts: list[tuple[str, tuple[Ends, ...]]] = []
    for of_type, kinds in by_type.items():
        parts += [(of_type, next(iter(kinds.values())))] if len(set(kinds.values())) == 1 else kinds.items()
    return ",".join(f"{kind}={of_bands(ends)}" for kind, ends in parts)


def of_bands(ends: Iterable[Ends]) -> str:
    """LOW:HIGH, for each band, as it is typed."""
    return "/".join(f"{_number(low)}:{_number(high)}" for low, high in ends)


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)
