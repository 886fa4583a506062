"""A realistic set of JPEGs without a download: crops of the photographs that come with two libraries."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from barlowctl.amounts import counted, megabytes
from barlowctl.errors import UserError
from barlowctl.output_paths import free_bytes

# (package, folder inside it, photographs in colour)
FOUND_IN = (
    ("skimage", "data", "astronaut.png chelsea.png coffee.png hubble_deep_field.jpg ihc.png"),
    ("skimage", "data", "motorcycle_left.png retina.jpg rocket.jpg"),
    ("sklearn", "datasets/images", "china.jpg flower.jpg"),
)
BYTES_OF_A_JPEG = 30_000
"""Of one that is made, at least: their mean is twice that."""
LONGER, SHORTER = 500, 375
"""Pixels: about the sides of ImageNet's photographs. Each crop's differ from them by up to a tenth."""


def jpegs_and_packed(
    source: Path | None, parent: Path, count: int, workers: int, progress: Callable[[str], None]
) -> tuple[Path, Path]:
    """A folder of `count` JPEGs, and the same packed, both in `parent`.

    Args:
        source: JPEGs to draw from, in folders of any kind; None: made from photographs.

    Raises:
        UserError: there are no photographs, or no JPEGs below `source`.
    """
    from barlowctl.data.beton.pack import pack
    from barlowctl.data.sources import open_source

    folder, packed = parent / "images", parent / "images.beton"
    if source is None:
        check_disk(parent, count, 2 * count * BYTES_OF_A_JPEG)
        progress(f"making {count} JPEGs")
        write_photographs(folder, count)
    else:
        progress(f"drawing {count} of the JPEGs in {source}")
        sample_photographs(source, folder, count)
    pack(open_source(folder), packed, workers=workers)
    return folder, packed


def check_disk(folder: Path, count: int, needed: int) -> None:
    """Refuse a set of JPEGs for which there is no room.

    Args:
        folder: where they are to be made, and packed. count: how many. needed: bytes that all of them take.

    Raises:
        UserError: with half as many as there is room for.
    """
    if (room := free_bytes(folder)) < needed:
        fitting = max(16, int(count * room / needed / 2))
        raise UserError(
            f"{counted(count, 'JPEG')} take {megabytes(needed)} or more, and there is room for {megabytes(room)} in "
            f"'{folder.parent}' (TMPDIR names another place)",
            next=f"--samples {fitting}",
        )


def write_photographs(folder: Path, count: int, seed: int = 0) -> None:
    """Write `count` JPEGs of about 500 x 375, a quarter of them upright, quality 90 to 95, in two class folders.

    Raises:
        UserError: neither library's photographs are there.
    """
    from PIL import Image

    photographs = [Image.open(path).convert("RGB") for path in _photographs()]
    if not photographs:
        raise UserError(
            "there are no photographs to make JPEGs of: neither scikit-image nor scikit-learn is installed",
            next="pip install scikit-image scikit-learn\nname a folder of JPEGs with --data",
        )
    generator = random.Random(seed)
    for label in "ab":
        (folder / label).mkdir(parents=True)
    for number in range(count):
        picture = photographs[number % len(photographs)]
        width, height = (round(side * generator.uniform(0.9, 1.1)) for side in (LONGER, SHORTER))
        if generator.random() < 0.25:
            width, height = height, width
        scale = min(picture.width / width, picture.height / height) * generator.uniform(0.8, 1.0)
        left = generator.uniform(0, picture.width - width * scale)
        top = generator.uniform(0, picture.height - height * scale)
        box = (left, top, left + width * scale, top + height * scale)
        crop = picture.resize((width, height), Image.Resampling.BICUBIC, box=box)
        path = folder / "ab"[number % 2] / f"{number:06d}.jpg"
        crop.save(path, "JPEG", quality=generator.randint(90, 95))


def sample_photographs(source: Path, folder: Path, count: int, seed: int = 0) -> None:
    """Link (or copy) at most `count` of the JPEGs below `source` into `folder`, in two class folders.

    A draw of all of them, so that every pipeline reads the same ones whatever the layout of `source`.

    Raises:
        UserError: there are none, or they cannot be read.
    """
    paths = []
    for parent, folders, names in os.walk(source):
        folders.sort()
        paths += [Path(parent, name) for name in sorted(names) if name.lower().endswith((".jpg", ".jpeg"))]
    if not paths:
        raise UserError(
            f"there are no JPEGs below '{source}'", allowed="files named .jpg or .jpeg", next="without --data"
        )
    chosen = random.Random(seed).sample(paths, min(count, len(paths)))
    check_disk(folder.parent, len(chosen), sum(path.stat().st_size for path in chosen))  # packed; they are links here
    for label in "ab":
        (folder / label).mkdir(parents=True)
    for number, path in enumerate(chosen):
        target = folder / "ab"[number % 2] / f"{number:06d}.jpg"
        try:
            try:
                os.link(path.resolve(), target)
            except OSError:  # another file system, or one without links
                shutil.copyfile(path, target)
        except OSError as error:
            raise UserError(f"'{path}' cannot be read: {error.strerror}", next="name another folder") from error


def _photographs() -> list[Path]:
    paths = []
    for package, inside, names in FOUND_IN:
        spec = importlib.util.find_spec(package)  # located, not imported: scikit-learn takes a second
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            paths += [path for name in names.split() if (path := Path(folder, inside, name)).is_file()]
    return paths
