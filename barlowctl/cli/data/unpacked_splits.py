"""The splits of what was packed that are not packed yet, and what their files would be called."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from barlowctl.data.images.conversion import Choices
    from barlowctl.data.sources.picture import Source
    from barlowctl.data.sources.read_options import ReadOptions


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


def flags_of(read: ReadOptions, choices: Choices, *, store: str, quality: int, shorter_side: int | None) -> list[str]:
    """The flags of `data pack` that these values are, without those that are not needed."""
    values = {
        **{name.replace("_", "-"): None if value is None else str(value) for name, value in asdict(read).items()},
        "store": None if store == "auto" else store,
        "quality": None if quality == 95 else str(quality),
        "shorter-side": None if shorter_side is None else str(shorter_side),
        "range": None if choices.range == "auto" else choices.range,
        "background": None if choices.background == "white" else choices.background,
        "bands": ",".join(map(str, choices.bands)) or None,
    }
    return [word for name, value in values.items() if value is not None for word in (f"--{name}", value)]


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
