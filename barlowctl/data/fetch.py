"""Bring a well-known data set into the data home: from a folder or the Debian package, else by download."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from barlowctl import shell
from barlowctl.amounts import counted
from barlowctl.data import home
from barlowctl.data.beton.pack import PackReport, pack
from barlowctl.data.beton.reader import Beton
from barlowctl.data.names import packed_as
from barlowctl.data.sources import open_source
from barlowctl.data.sources.picture import Source
from barlowctl.datasets import CIFAR10, CIFAR100, FASHION_MNIST, IMAGENETTE, STL10, TO_BE_PACKED, Dataset
from barlowctl.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Download:
    """How a data set is brought.

    dataset: what it is; every split must have as many images. torchvision: the function that downloads it into a
        folder. kind: how the kind of its source begins, to refuse another data set's folder. package: (Debian
        package, its folder).
    """

    dataset: Dataset
    torchvision: Callable[[Path], Any]
    kind: str
    package: tuple[str, Path] | None = None


@dataclass(frozen=True)
class Fetched:
    """What `get` did for one split: `report` is None where the file was there already."""

    split: str
    path: Path
    samples: int
    content_hash: str
    report: PackReport | None


def _torchvision(name: str) -> Callable[[Path], Any]:
    """torchvision's data set of that name, as a function that downloads it."""

    def download(root: Path) -> Any:
        from torchvision import datasets

        return getattr(datasets, name)(str(root), download=True)

    return download


_DEBIAN = ("dataset-fashion-mnist", Path("/usr/share/datasets/fashion-mnist"))
DOWNLOADS = {
    download.dataset.name: download
    for download in (
        Download(FASHION_MNIST, _torchvision("FashionMNIST"), "images in IDX", _DEBIAN),
        Download(CIFAR10, _torchvision("CIFAR10"), "images in CIFAR-10 "),
        Download(CIFAR100, _torchvision("CIFAR100"), "images in CIFAR-100 "),
        Download(STL10, _torchvision("STL10"), "images in STL-10"),
        Download(IMAGENETTE, _torchvision("Imagenette"), "images in class"),
    )
}


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
    if name not in DOWNLOADS:
        next_step = home.to_be_packed(name) if name in TO_BE_PACKED else None
        raise UserError(
            f"data set '{name}' cannot be fetched{did_you_mean(name, DOWNLOADS)}",
            allowed=", ".join(DOWNLOADS),
            next=next_step,
        )
    package, splits = DOWNLOADS[name].package, DOWNLOADS[name].dataset.images
    fetched = [_present(name, split) for split in splits if not overwrite]
    missing = [split for split in splits if split not in {entry.split for entry in fetched if entry}]
    if not missing:
        say(f"{name} is already in {home.data_home() / name}")
        return [entry for entry in fetched if entry]
    if source is not None:
        return _pack_splits(name, source, missing, workers, say, progress)
    if package and package[1].is_dir():
        say(f"taking {name} from Debian's package {package[0]} ({package[1]})")
        return _pack_splits(name, package[1], missing, workers, say, progress)
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
    every = DOWNLOADS[name].dataset.images
    done = {present.split: present for present in (_present(name, split) for split in every) if present}
    for split, source in opened.items():
        path = home.dataset_file(name, split)
        say(f"packing {counted(len(source), 'image')} of {name}, {split}")
        report = pack(source, path, workers=workers, on_unreadable="fail", overwrite=True, progress=progress)
        done[split] = Fetched(split, path, report.samples, report.content_hash, report)
    return [done[split] for split in every]


def _open_known(name: str, folder: Path, split: str) -> Source:
    kind, dataset = DOWNLOADS[name].kind, DOWNLOADS[name].dataset
    source = open_source(folder, split)
    if not source.kind.startswith(kind) or len(source) != dataset.images[split]:
        raise UserError(
            f"{folder} is not {name}: found {source.counted()} in the {split} split",
            allowed=counted(dataset.images[split], "image"),
            next=shell.line("barlowctl", "data", "pack", folder, packed_as(folder)),
        )
    if dataset.class_names and len(source.class_names) == dataset.classes:
        source.class_names = list(dataset.class_names)
    return source


def _download(
    name: str,
    splits: list[str],
    workers: int,
    say: Callable[[str], None],
    progress: Callable[[int], None] | None,
) -> list[Fetched]:
    """Download into a temporary folder of the home, pack, and drop the download."""
    package, base = DOWNLOADS[name].package, home.data_home()
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the data home {base}: {error.strerror}", next="set BARLOWCTL_DATA") from error
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=base) as folder:
        say(f"downloading {name} through torchvision")
        try:
            with contextlib.redirect_stdout(sys.stderr):  # torchvision prints
                DOWNLOADS[name].torchvision(Path(folder))
        except Exception as error:  # torchvision, urllib, tarfile and the disk each raise their own
            from_folder = shell.line("barlowctl", "data", "get", name, "--from", "FOLDER")
            steps = [f"bring its files in another way, then: `{from_folder}`"]
            if package and shutil.which("apt-get"):
                steps.insert(0, f"apt-get install {package[0]}")
            tried = f"looked for {package[1]}, then " if package else ""
            raise UserError(
                f"{name} could not be downloaded ({tried}tried torchvision's download: {_short(error)})",
                next="\n".join(steps),
            ) from error
        return _pack_splits(name, Path(folder), splits, workers, say, progress)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
