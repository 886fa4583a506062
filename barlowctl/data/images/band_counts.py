"""How many bands the images of a data set have: one with another number than the others is named."""

from __future__ import annotations

from collections import Counter

from barlowctl.amounts import counted
from barlowctl.channels import are_bands, in_words

EXAMPLES = 3
FEW = 3
"""Grey and colours, whatever file they are in: of these no bands are chosen."""


class BandCounts:
    """Images by their number of bands, with the names of the first few of each."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._names: dict[int, list[str]] = {}

    def add(self, bands: int, name: str) -> None:
        """Count an image. bands: 0 where its file has no more than three, or alpha beside them."""
        number = bands if bands > FEW else FEW
        self._counts[number] += 1
        names = self._names.setdefault(number, [])
        if len(names) < EXAMPLES:
            names.append(name)

    def lines(self, chosen: tuple[int, ...]) -> list[str]:
        """A line for each number of bands that is not that of most images, or that there was nothing to choose from.

        chosen: as `Choices.bands` has them.
        """
        (usual, most), *others = self._counts.most_common() or [(0, 0)]
        if chosen and not are_bands(len(chosen)) and set(self._counts) == {FEW}:
            return [
                f"bands {in_words(chosen)} were not chosen from anything: no image has more than three; "
                "bands in files of their own are written into one first (docs/howto/satellite.md)"
            ]
        return [
            f"{counted(count, 'image')} with {_in_words(bands)} ({', '.join(self._names[bands])}"
            f"{', ...' if count > EXAMPLES else ''}), and {most:,} with {_in_words(usual)}"
            + _taken(bands, usual, chosen)
            for bands, count in others
        ]


def _in_words(bands: int) -> str:
    return f"{bands} bands" if bands > FEW else "three or fewer"


def _taken(bands: int, usual: int, chosen: tuple[int, ...]) -> str:
    """What is read of the images with the unusual number."""
    if min(bands, usual) <= FEW or not chosen:
        return ""
    return f": bands {in_words(chosen)} of all, by number; a band may be another one there"
