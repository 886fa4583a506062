"""The splits of what was packed that are not packed yet, and what their files would be called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from barlowctl.data.sources.picture import Source


def unpacked_splits(images: Source, source: Path, out: str) -> dict[str, str]:
    """Split that `source` has beside that of `images`, packed into `out`, and that is not packed -> its OUT."""
    from barlowctl.data import home
    from barlowctl.data.sources import other_splits

    unpacked = {}
    for split in other_splits(images, source):
        names = _names(out, images.split, split)
        if not any(home.target(name, split).exists() for name in names):
            unpacked[split] = names[0]
    return unpacked


def _names(out: str, split: str, other: str) -> list[str]:
    """What OUT of another split may be called, the best first: the same name of the data home, or a file beside it."""
    from barlowctl.data.sources import SPLITS

    if not out.endswith(".beton"):
        return [out]
    folder, stem = out[: -len(Path(out).name)], Path(out).stem
    if stem in SPLITS:
        return [f"{folder}{other}.beton"]
    whole = stem.removesuffix(f"-{split}")
    names = [f"{folder}{whole}-{other}.beton"]
    return [f"{folder}{whole}.beton", *names] if other == "train" and whole != stem else names
