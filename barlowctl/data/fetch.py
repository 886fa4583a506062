"""Bring a well-known data set into the data home: from a folder or the Debian package, else by download."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from barlowctl import shell
from barlowctl.data import home
from barlowctl.data.beton import Beton
from barlowctl.data.pack import PackReport, pack
from barlowctl.data.picture import Source
from barlowctl.data.sources import open_source
from barlowctl.errors import UserError, did_you_mean

# fmt: off
FASHION_CLASSES = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]
IMAGENETTE_CLASSES = [
    "tench", "English springer", "cassette player", "chain saw", "church", "French horn", "garbage truck",
    "gas pump", "golf ball", "parachute",
]
# fmt: on
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class Known:
    """A data set we know how to get.

    splits: those of the home and how many images each must have.    download: torchvision's arguments.
    class_names: readable names where the files have none.    package: (Debian package, its folder).
    kind: how the kind of its source begins, to refuse another data set's folder.
    """

    splits: dict[str, int]
    download: Callable[[Path], Any]
    kind: str
    class_names: list[str] | None = None
    package: tuple[str, Path] | None = None


@dataclass(frozen=True)
class Fetched:
    """What `get` did for one split: `report` is None where the file was there already."""

    split: str
    path: Path
    samples: int
    content_hash: str
    report: PackReport | None


def _fashion_mnist(root: Path) -> None:
    from torchvision.datasets import FashionMNIST

    FashionMNIST(str(root), download=True)


def _cifar10(root: Path) -> None:
    from torchvision.datasets import CIFAR10

    CIFAR10(str(root), download=True)


def _cifar100(root: Path) -> None:
    from torchvision.datasets import CIFAR100

    CIFAR100(str(root), download=True)


def _stl10(root: Path) -> None:
    from torchvision.datasets import STL10

    STL10(str(root), download=True)


def _imagenette(root: Path) -> None:
    from torchvision.datasets import Imagenette

    Imagenette(str(root), download=True)


KNOWN = {
    "fashion-mnist": Known(
        {"train": 60000, "test": 10000},
        _fashion_mnist,
        "IDX",
        FASHION_CLASSES,
        ("dataset-fashion-mnist", DEBIAN_FASHION),
    ),
    "cifar10": Known({"train": 50000, "test": 10000}, _cifar10, "CIFAR-10 "),
    "cifar100": Known({"train": 50000, "test": 10000}, _cifar100, "CIFAR-100 "),
    "stl10": Known({"train": 5000, "test": 8000, "unlabelled": 100000}, _stl10, "STL-10"),
    "imagenette": Known({"train": 9469, "val": 3925}, _imagenette, "images in class", IMAGENETTE_CLASSES),
}
assert tuple(KNOWN) == home.DOWNLOADABLE


def get(
    name: str,
    *,
    source: Path | None = None,
    workers: int = 1,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[int], None] | None = None,
) -> list[Fetched]:
    """Make every split of a data set be in the home; what is there already is left as it is.

    Args:
        source: a folder that holds the data set's files; None: the Debian package's where it is installed,
            else a download through torchvision.
        overwrite: pack again what is there already.
        say: receives one line per step.
        progress: receives the number of images dealt with, as they are.

    Raises:
        UserError: an unknown name, a source with something else in it, or a failed download.
    """
    if name not in KNOWN:
        next_step = shell.line("barlowctl", "data", "pack", "FOLDER", name) if name in home.TO_BE_PACKED else None
        raise UserError(
            f"data set '{name}' cannot be fetched{did_you_mean(name, KNOWN)}", allowed=", ".join(KNOWN), next=next_step
        )
    known = KNOWN[name]
    fetched = [_present(name, split) for split in known.splits if not overwrite]
    missing = [split for split in known.splits if split not in {one.split for one in fetched if one}]
    if not missing:
        say(f"{name} is already in {home.data_home() / name}")
        return [one for one in fetched if one]
    if source is not None:
        return _pack_splits(name, source, missing, workers, say, progress)
    if known.package and known.package[1].is_dir():
        say(f"taking {name} from Debian's package {known.package[0]} ({known.package[1]})")
        return _pack_splits(name, known.package[1], missing, workers, say, progress)
    return _download(name, missing, workers, say, progress)


def _present(name: str, split: str) -> Fetched | None:
    path = home.dataset_file(name, split)
    if not path.is_file():
        return None
    beton = Beton.open(path)
    return Fetched(split, path, beton.num_samples, beton.content_hash, None)


def _pack_splits(
    name: str,
    folder: Path,
    splits: list[str],
    workers: int,
    say: Callable[[str], None],
    progress: Callable[[int], None] | None,
) -> list[Fetched]:
    """Open every split first, so that a wrong folder is refused before anything is written."""
    opened = {split: _open_known(name, folder, split) for split in splits}
    done = {one.split: one for one in (_present(name, split) for split in KNOWN[name].splits) if one}
    for split, source in opened.items():
        path = home.dataset_file(name, split)
        say(f"packing {len(source)} images of {name}, {split}")
        report = pack(source, path, workers=workers, on_unreadable="fail", overwrite=True, progress=progress)
        done[split] = Fetched(split, path, report.samples, report.content_hash, report)
    return [done[split] for split in KNOWN[name].splits]


def _open_known(name: str, folder: Path, split: str) -> Source:
    known = KNOWN[name]
    source = open_source(folder, split)
    if not source.kind.startswith(known.kind) or len(source) != known.splits[split]:
        raise UserError(
            f"{folder} is not {name}: found {source.kind}, {len(source)} images of the {split} split",
            allowed=f"{known.splits[split]} images",
            next=shell.line("barlowctl", "data", "pack", folder, "NAME"),
        )
    if known.class_names is not None and len(source.class_names) == len(known.class_names):
        source.class_names = list(known.class_names)
    return source


def _download(
    name: str,
    splits: list[str],
    workers: int,
    say: Callable[[str], None],
    progress: Callable[[int], None] | None,
) -> list[Fetched]:
    """Download into a temporary folder of the home, pack, and drop the download."""
    known, base = KNOWN[name], home.data_home()
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the data home {base}: {error.strerror}", next="set BARLOWCTL_DATA") from error
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=base) as folder:
        say(f"downloading {name} through torchvision")
        try:
            with contextlib.redirect_stdout(sys.stderr):  # torchvision prints
                known.download(Path(folder))
        except Exception as error:  # torchvision, urllib, tarfile and the disk each raise their own
            steps = [shell.line("barlowctl", "data", "get", name, "--from", "FOLDER")]  # its files, fetched elsewhere
            if known.package:
                steps.insert(0, f"apt-get install {known.package[0]}")
            tried = f"looked for {known.package[1]}, then " if known.package else ""
            raise UserError(
                f"{name} could not be downloaded ({tried}tried torchvision's download: {_short(error)})",
                next="\n".join(steps),
            ) from error
        return _pack_splits(name, Path(folder), splits, workers, say, progress)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
