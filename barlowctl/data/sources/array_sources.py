"""Images that lie in one array of a file: IDX, CIFAR's python batches, STL-10's binaries.

Each `open_*` takes a folder and a split, and gives None where the folder is not of its kind.
"""

from __future__ import annotations

import gzip
import pickle
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from barlowctl.data.sources.file_kind import kind_of
from barlowctl.data.sources.picture import Picture, Source
from barlowctl.errors import UserError


class ArraySource(Source):
    """Images that lie in one array: uint8 (n, ...), `turn` makes (H, W) or (H, W, 3) of one."""

    def __init__(
        self,
        kind: str,
        path: Path,
        split: str,
        images: np.ndarray,
        labels: np.ndarray,
        class_names: list[str],
        turn: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        if len(images) != len(labels):
            raise UserError(
                f"{path}: {len(images)} images but {len(labels)} labels of the {split} split", next="download it again"
            )
        if len(images) == 0:
            raise UserError(f"{path}: no images in the {split} split", next="download it again")
        if class_names and int(labels.max()) >= len(class_names):
            raise UserError(
                f"{path}: label {int(labels.max())}, but there are {len(class_names)} class names",
                next="download it again",
            )
        self.kind, self.path, self.split, self.class_names = kind, path, split, class_names
        self._images, self._labels, self._turn = images, labels, turn

    def __len__(self) -> int:
        return len(self._images)

    def describe(self, index: int) -> tuple[str, int]:
        return f"{self.split}[{index}]", int(self._labels[index])

    def __getitem__(self, index: int) -> Picture:
        pixels = np.ascontiguousarray(self._turn(self._images[index]))
        return Picture(*self.describe(index), pixels)

    def extent(self, index: int) -> tuple[int, int]:
        pixels = np.ascontiguousarray(self._images[index])
        return pixels.nbytes, zlib.crc32(pixels.data)


# ---- IDX: MNIST, Fashion-MNIST (yann.lecun.com/exdb/mnist, "the IDX file format") ------------------------


def open_idx(folder: Path, split: str, only: Path | None = None) -> Source | None:
    prefix = "train" if split == "train" else "t10k"
    images = only or _idx_file(folder, f"{prefix}-images")
    if images is None:
        other = _idx_file(folder, "train-images") or _idx_file(folder, "t10k-images")
        if other is not None:
            raise UserError(
                f"{folder} has no IDX files of the {split} split",
                allowed="splits train, test",
                next="--split test" if split == "train" else "--split train",
            )
        return None
    if split == "unlabelled":
        raise UserError(
            f"{folder} has no unlabelled split", allowed="splits train, test", next="--split train\n--split test"
        )
    stem = images.name.split("-images")[0]
    labels = _idx_file(folder, f"{stem}-labels")
    pixels = read_idx(images)
    if pixels.ndim != 3:
        raise UserError(
            f"{images}: {pixels.ndim} dimensions, not images of (n, rows, columns)",
            next="download it again",
        )
    if labels is None:
        classes, numbers = [], np.full(len(pixels), -1)
    else:
        numbers = read_idx(labels).astype(np.int64)
        classes = [str(i) for i in range(int(numbers.max(initial=0)) + 1)]
    return ArraySource("images in IDX files", folder, split, pixels, numbers, classes, lambda stored: stored)


_IDX_NAME = re.compile(r"idx\d-ubyte(\.gz)?$")


def _idx_file(folder: Path, start: str) -> Path | None:
    """The IDX file whose name begins so; another file that happens to have "idx" in its name is none."""
    files = [path for path in sorted(folder.glob(f"{start}*idx*")) if path.is_file()]
    return next((path for path in files if _IDX_NAME.search(path.name) or kind_of(path) == "idx"), None)


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes, gzip-compressed or not, as a uint8 array.

    Raises:
        UserError: not such a file, or cut short.
    """
    try:
        with open(path, "rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else open(path, "rb") as stream:
            content = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}", next="download it again") from error
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise UserError(f"{path} is not an IDX file of unsigned bytes", next="download it again")
    start = 4 + 4 * content[3]
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], dtype=">u4"))
    expected = start + int(np.prod(shape, dtype=np.int64))
    if len(shape) != content[3] or len(content) != expected:
        raise UserError(f"{path}: {len(content)} bytes, {expected} expected", next="download it again")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


# ---- CIFAR (www.cs.toronto.edu/~kriz/cifar.html, the python version) -------------------------------------


def open_cifar(folder: Path, split: str) -> Source | None:
    batches = sorted(file for file in folder.glob("data_batch_[0-9]") if file.is_file())
    if batches or (folder / "test_batch").is_file():
        stored, meta, key, names = "CIFAR-10 batches", "batches.meta", "labels", "label_names"
        files = batches if split == "train" else [folder / "test_batch"]
    elif (folder / "meta").is_file() and (folder / "train").is_file():
        stored, meta, key, names = "CIFAR-100 batches", "meta", "fine_labels", "fine_label_names"
        files = [folder / ("train" if split == "train" else "test")]
    else:
        return None
    if split == "unlabelled" or not all(file.is_file() for file in files) or not files:
        raise UserError(
            f"{folder} has no {split} split of {stored}",
            allowed="splits train, test",
            next="--split train\n--split test",
        )
    read = [read_cifar_batch(file, key) for file in files]
    classes = _load_pickle(folder / meta).get(names, []) if (folder / meta).is_file() else []
    return ArraySource(
        f"images in {stored}",
        folder,
        split,
        np.concatenate([images for images, _ in read]),
        np.concatenate([labels for _, labels in read]),
        [str(name) for name in classes],
        lambda stored: stored.reshape(3, 32, 32).transpose(1, 2, 0),
    )


def read_cifar_batch(path: Path, label_key: str) -> tuple[np.ndarray, np.ndarray]:
    """One batch file: images uint8 (n, 3072) in the order channel, row, column; labels int64 (n,)."""
    batch = _load_pickle(path)
    images, labels = batch.get("data"), batch.get(label_key)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (3072,):
        raise UserError(f"{path} is not a CIFAR batch: no uint8 'data' of (n, 3072)", next="download it again")
    if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
        raise UserError(f"{path} is not a CIFAR batch: no list '{label_key}'", next="download it again")
    return images, np.array(labels, dtype=np.int64)


class _ArrayUnpickler(pickle.Unpickler):
    """Loads plain containers and numpy arrays and refuses to import anything else: pickles can run code."""

    _ALLOWED = frozenset(
        {
            ("numpy", "dtype"),
            ("numpy", "ndarray"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy.core.numeric", "_frombuffer"),
            ("numpy._core.numeric", "_frombuffer"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not data")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _load_pickle(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as stream:
            loaded = _ArrayUnpickler(stream, encoding="latin1").load()
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(
            f"{path} is not a CIFAR batch that is safe to read: {error}",
            next="download it again from its authors",
        ) from error
    if not isinstance(loaded, dict):
        raise UserError(f"{path} is not a CIFAR batch: it holds no dictionary", next="download it again")
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in loaded.items()}


# ---- STL-10 (cs.stanford.edu/~acoates/stl10, the binary version) -----------------------------------------


def open_stl10(folder: Path, split: str) -> Source | None:
    parts = {"train": "train", "val": "test", "test": "test", "unlabelled": "unlabeled"}
    if not any((folder / f"{part}_X.bin").is_file() for part in parts.values()):
        return None
    images = folder / f"{parts[split]}_X.bin"
    if not images.is_file():
        raise UserError(
            f"{folder} has no {images.name}",
            allowed="splits train, test, unlabelled of STL-10",
            next="download it again",
        )
    image_bytes = 3 * 96 * 96
    if images.stat().st_size == 0 or images.stat().st_size % image_bytes:
        raise UserError(
            f"{images}: {images.stat().st_size} bytes are no multiple of {image_bytes}",
            next="download it again",
        )
    pixels = np.memmap(images, dtype=np.uint8, mode="r").reshape(-1, 3, 96, 96)
    labels_file, names_file = folder / f"{parts[split]}_y.bin", folder / "class_names.txt"
    labels = np.full(len(pixels), -1, dtype=np.int64)
    if labels_file.is_file():
        labels = np.fromfile(labels_file, dtype=np.uint8).astype(np.int64) - 1  # the files count from 1
    names = names_file.read_text(encoding="utf-8").split() if names_file.is_file() else []
    classes = names or [str(i) for i in range(int(labels.max()) + 1)]
    return ArraySource(  # columns before rows
        "images in STL-10 binaries",
        folder,
        split,
        pixels,
        labels,
        classes,
        lambda stored: np.asarray(stored.transpose(2, 1, 0)),
    )
