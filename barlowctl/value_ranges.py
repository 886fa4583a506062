"""Which values of an image are black and white, as it is typed: `--range` of `data pack`, `data.range` of a recipe."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

AUTO, TYPE = "auto", "type"
NAMED = (AUTO, TYPE)
ALLOWED = (
    "auto, type, or LOW:HIGH, the values of black and white, e.g. 0:4095; of several types in one data set "
    "uint16=0:4095,float32=0:1"
)

Ends = tuple[float, float]

_PATTERN = re.compile(r"(?:([a-z]+\d+(?: \(\d+ (?:significant )?bits\))?)=)?([-+.\deE]+):([-+.\deE]+)")


def parse(text: str) -> dict[str, Ends]:
    """LOW and HIGH by the kind of values ("uint16", or "uint16 (12 bits)" where files state their bits), or under ""
    for all; nothing of `NAMED`.

    Raises:
        ValueError: none of these, the same kind twice, or an end that is not below the other.
    """
    made: dict[str, Ends] = {}
    for part in () if text in NAMED else text.split(","):
        match = _PATTERN.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"'{part}' is not LOW:HIGH")
        kind, low, high = match[1] or "", float(match[2]), float(match[3])
        if not low < high or not math.isfinite(high - low):
            raise ValueError(f"{low:g} is not below {high:g}")
        if kind in made or (made and not kind) or "" in made:
            raise ValueError(f"'{text}' names values twice")
        made[kind] = (low, high)
    return made


def written(used: Iterable[tuple[str, Ends]]) -> str:
    """Kinds and their ends as `parse` reads them; of a type alone where all of its kinds have the same ends."""
    by_type: dict[str, dict[str, Ends]] = {}
    for kind, ends in used:
        by_type.setdefault(kind.partition(" ")[0], {})[kind] = ends
    parts: list[tuple[str, Ends]] = []
    for of_type, kinds in by_type.items():
        parts += [(of_type, next(iter(kinds.values())))] if len(set(kinds.values())) == 1 else kinds.items()
    return ",".join(f"{kind}={_number(low)}:{_number(high)}" for kind, (low, high) in parts)


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)
