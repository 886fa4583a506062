"""What a source would give a packed file: its classes, and a look at some of its images, which takes seconds."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from barlowctl.data.beton.encode import encode
from barlowctl.data.images.unreadable import Unreadable, reason_of
from barlowctl.data.names import written
from barlowctl.data.sources.lacking import Lacking
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.sample import LENGTH, conversion_of, positions

SECONDS = 5.0
"""After which no further image is looked at."""


@dataclass
class Survey:
    """What was met.

    class_sizes: images of each class.    labelled: images with a label.
    looked_at: images that were read.    widths, heights: the least and the most of those.    colour: whether any has.
    pixels: on average.    as_they_are: JPEGs whose bytes would be stored.    unreadable: (name, reason).
    setting: `KEY=VALUE` that unreadable images lack, of each key what the first lacks, with spaces.
    notes: what was chosen for more than 8 bits, transparency and bands.
    """

    class_sizes: list[int]
    labelled: int
    looked_at: int = 0
    widths: tuple[int, int] = (0, 0)
    heights: tuple[int, int] = (0, 0)
    pixels: float = 0.0
    colour: bool = False
    as_they_are: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    setting: str = ""
    notes: list[str] = field(default_factory=list)


def survey(source: Source, seconds: float = SECONDS) -> Survey:
    """Count a source's labels, and look at images that are spread evenly over it: 256, or as many as time allows."""
    sizes = Counter(source.describe(index)[1] for index in range(len(source)))
    labelled = sum(count for label, count in sizes.items() if label >= 0)
    met = Survey([sizes[label] for label in range(len(source.class_names))], labelled)
    conversion, sides = conversion_of(source), list[tuple[int, int]]()
    lacking = Lacking(source, conversion)
    chosen, until = positions(len(source)), time.monotonic() + seconds
    for index in (index for first in range(LENGTH) for index in chosen[first::LENGTH]):
        if time.monotonic() > until and sides:
            break
        met.looked_at += 1
        try:
            stored = encode(source[index], conversion=conversion)
        except (OSError, Unreadable) as error:
            reason = str(error) if isinstance(error, Unreadable) else reason_of(error)
            met.unreadable.append((written(source.describe(index)[0]), reason))
            lacking.of(error, index)
            continue
        sides.append((stored.width, stored.height))
        met.colour = met.colour or not stored.grey
        met.as_they_are += not stored.changed
    met.setting, met.notes = lacking.settings, list(conversion.notes())
    if sides:
        widths, heights = [width for width, _ in sides], [height for _, height in sides]
        met.widths, met.heights = (min(widths), max(widths)), (min(heights), max(heights))
        met.pixels = sum(width * height for width, height in sides) / len(sides)
    return met
