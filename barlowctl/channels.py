"""How many channels an image has: one is grey, three are red, green and blue, any other number are bands of their own.

Grey and colour are one kind, stored as three values and read as either; images of other numbers are read as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST_CHANNELS = 64


def are_bands(channels: int) -> bool:
    """Whether so many channels are neither grey nor colour."""
    return channels not in (1, 3)


def stored_as(channels: int) -> int:
    """Values of a pixel in memory and in a packed file: three of grey and of colour, else as many as there are."""
    return channels if are_bands(channels) else 3


def in_words(bands: Sequence[int]) -> str:
    """Their numbers, for people: `4, 3, 2`, and `1-13` where three or more follow one another."""
    runs: list[list[int]] = []
    for band in bands:
        if runs and band == runs[-1][-1] + 1:
            runs[-1].append(band)
        else:
            runs.append([band])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
