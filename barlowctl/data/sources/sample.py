"""A look at some images of a data set, spread evenly: what range their values have, and whether they show anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial

from barlowctl.data.images import formats, png, tiff
from barlowctl.data.images.band_counts import BandCounts
from barlowctl.data.images.brightness import look
from barlowctl.data.images.conversion import Choices, Conversion
from barlowctl.data.images.deep import Deep
from barlowctl.data.images.pixels import convert_values, decode_picture, read_parts
from barlowctl.data.images.ranges import Ranges
from barlowctl.data.images.unreadable import Unreadable
from barlowctl.data.sources.picture import Source
from barlowctl.errors import UserError

BLOCKS, LENGTH = 16, 16
"""A data set of more images than both together is looked at in so many places, so many neighbours at a time: Parquet
files and archives are read in pieces."""

SHOWN_AT = 2  # images of each place whose pixels are looked at
_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".mpo")


def conversion_of(
    source: Source, choices: Choices | None = None, training: Callable[[], Source] | None = None
) -> Conversion:
    """The conversion of a data set's images; where a range has to be measured, it is so when the first image needs it.

    Args:
        training: the training split of the same data set, which is then measured instead: all splits have its range.
    """
    choices = choices or Choices()

    def sample() -> Iterator[Deep]:
        return deep_values(_training(source, training), choices)

    return Conversion(choices, Ranges(choices.range, sample), partial(conversion_of, source, training=training))


def _training(source: Source, training: Callable[[], Source] | None) -> Source:
    try:
        return source if training is None else training()
    except UserError:  # there is none
        return source


def positions(count: int) -> list[int]:
    """Which images are looked at: all of a small set."""
    if count <= BLOCKS * LENGTH:
        return list(range(count))
    begins = [round(block * (count - LENGTH) / (BLOCKS - 1)) for block in range(BLOCKS)]
    return sorted({begin + at for begin in begins for at in range(LENGTH)})


def deep_values(source: Source, choices: Choices) -> Iterator[Deep]:
    """The values of those images of the sample that hold more than 8 bits. Names of JPEGs are believed."""
    for position in positions(len(source)):
        if source.describe(position)[0].lower().endswith(_JPEG):
            continue
        try:
            data = source[position].data
            if not isinstance(data, bytes):
                if data.dtype != "uint8":
                    yield Deep(data, data.dtype.name)
                continue
            if _may_be_deep(data) and isinstance(values := read_parts(data, choices.bands).values, Deep):
                yield values
        except (OSError, Unreadable):
            continue  # said when its turn comes


def _may_be_deep(data: bytes) -> bool:
    if (bits := png.depth(data)[0]) or data[:2] == b"\xff\xd8":
        return bits == 16
    if formats.by_content(data[: formats.HEAD]) is formats.DICOM:  # which may begin as a TIFF does
        return True
    return tiff.holds_more_than_8_bits(data) if tiff.is_tiff(data) else data[:4] not in (b"GIF8", b"RIFF")


def how_they_look(source: Source, conversion: Conversion) -> tuple[dict[str, list[str]], int, BandCounts]:
    """Names of images of the sample that look black, white or flat, by that, how many were looked at, and bands."""
    names_by_look: dict[str, list[str]] = defaultdict(list)
    looked_at, bands = 0, BandCounts()
    chosen = positions(len(source))
    looks_at = min(len(chosen), BLOCKS * SHOWN_AT)
    for position in (chosen[i * len(chosen) // looks_at] for i in range(looks_at)):
        try:
            data = source[position].data
            decoded = decode_picture(data, conversion) if isinstance(data, bytes) else convert_values(data, conversion)
        except (OSError, Unreadable):
            continue
        looked_at += 1
        bands.add(decoded.bands, source.describe(position)[0])
        if looks := look(decoded.pixels):
            names_by_look[looks].append(source.describe(position)[0])
    return names_by_look, looked_at, bands
