"""Whether images of one set are those of another: the same files by another path, or the same bytes.

Files are compared by device and inode, which finds links of both kinds. Copies are looked for among images of the same
size, for a sample: reading everything would take as long as an epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from barlowctl.data.beton.reader import Beton
from barlowctl.data.loaders.plain import Pictures
from barlowctl.data.sources.fingerprint import SAMPLE_BYTES, Extents

SAMPLED = 64
"""Images that are looked for."""
FEW, MANY = 500, 200_000
"""Images of the same size that one is compared with at most: as a whole, and by some bytes."""


@dataclass(frozen=True)
class Overlap:
    """images: how many are in the other set too, of `looked_at`. files: as the very same files."""

    images: int
    looked_at: int
    files: bool = False

    @property
    def complete(self) -> bool:
        """Whether every image that was looked for was found."""
        return 0 < self.looked_at == self.images


def overlap(among: Beton | Pictures, of: Beton | Pictures) -> Overlap:
    """How many images of `of` are in `among`: all of them by their files or checksums, else a sample by their bytes."""
    if isinstance(among, Pictures) and isinstance(of, Pictures):
        for keys in (_files, _checksums):
            own, other = keys(of.extents), keys(among.extents)
            result = Overlap(int((np.isin(own, other) & (own >= 0)).sum()), of.num_samples, keys is _files)
            if result.complete:
                return result
        if (of.extents.checksums >= 0).all() and (among.extents.checksums >= 0).all():
            return result
    return _same_bytes(among, of)


def _files(extents: Extents) -> np.ndarray:
    """Device and inode as one number, -1 for what is no file."""
    device, inode = extents.identities.T
    return np.where(inode < 0, -1, (device * 1_000_003 ^ inode) & ((1 << 62) - 1))


def _checksums(extents: Extents) -> np.ndarray:
    """Size and checksum as one number, -1 where one is not known."""
    stored = (extents.sizes > 0) & (extents.checksums >= 0)
    return np.where(stored, (extents.sizes << 32 | extents.checksums) & ((1 << 62) - 1), -1)


def _same_bytes(among: Beton | Pictures, of: Beton | Pictures) -> Overlap:
    sizes, sizes_of = _sizes(among), _sizes(of)
    order = np.argsort(sizes, kind="stable")
    chosen = np.unique(np.linspace(0, of.num_samples - 1, min(of.num_samples, SAMPLED)).round().astype(np.int64))
    shared = 0
    for index in chosen.tolist():
        first, last = np.searchsorted(sizes, [sizes_of[index], sizes_of[index] + 1], sorter=order)
        if sizes_of[index] > 0 and first < last:
            image = _start(of, index)
            shared += bool(image) and any(
                _start(among, row) == image for row in _alike(among, order[first:last], image)
            )
    return Overlap(shared, len(chosen))


def _alike(among: Beton | Pictures, candidates: np.ndarray, image: bytes) -> list[int]:
    """Candidates (all of the image's size) that are worth a look; in a packed file by some of their bytes."""
    if len(candidates) > FEW and isinstance(among, Beton):
        for place in np.linspace(0, len(image) - 1, 6).astype(np.int64):
            candidates = candidates[:MANY][among.bytes[among.pointers[candidates[:MANY]] + place] == image[place]]
    alike: list[int] = candidates[:FEW].tolist()
    return alike


def _sizes(source: Beton | Pictures) -> np.ndarray:
    return source.sizes if isinstance(source, Beton) else source.extents.sizes


def _start(source: Beton | Pictures, index: int) -> bytes:
    """The first bytes of a stored image: enough, among images of one size."""
    return bytes(source.stored(index)[:SAMPLE_BYTES])
