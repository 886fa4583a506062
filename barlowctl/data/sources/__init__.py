"""What can be packed: image folders, arrays in files, archives, Parquet files, lists of paths.

A source is a lazy, ordered list of pictures. `open_source` looks at a path and says which kind it is.
"""

from __future__ import annotations

from pathlib import Path

from barlowctl.data.sources.array_sources import open_cifar, open_idx, open_stl10
from barlowctl.data.sources.braces import expanded, open_shards
from barlowctl.data.sources.file_source import open_file
from barlowctl.data.sources.folder_source import choose_layout, report_beside_archives, report_beside_arrays
from barlowctl.data.sources.hdf5_images import hdf5_files_in, open_hdf5_folder
from barlowctl.data.sources.hold_out import part
from barlowctl.data.sources.image_folder import UNDERSTOOD, ImageFolder, has_split_folders, split_by_table, split_folder
from barlowctl.data.sources.numpy_folder import NumpyFolder, has_arrays
from barlowctl.data.sources.numpy_images import open_arrays
from barlowctl.data.sources.other_splits import other_splits
from barlowctl.data.sources.parquet_source import open_parquet, parquet_files
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.read_options import NO_OPTIONS, ReadOptions
from barlowctl.data.sources.shard_folders import find_shard_folder
from barlowctl.data.sources.tar_shards import open_tar_shards, tar_files
from barlowctl.data.tree.scan import has_images
from barlowctl.data.tree.splits import SPLITS
from barlowctl.errors import UserError, instead

__all__ = [
    "SPLITS",
    "expanded",
    "has_images",
    "has_split_folders",
    "open_source",
    "other_splits",
    "split_by_table",
    "split_folder",
]

# Where torchvision's downloads put things below the folder that one names.
_INSIDE = ("raw", "FashionMNIST/raw", "MNIST/raw", "cifar-10-batches-py", "cifar-100-python", "stl10_binary", "pcam")
_IMAGES_INSIDE = ("imagenette2", "imagenette2-320", "imagenette2-160")


def open_source(path: str | Path, split: str = "train", options: ReadOptions = NO_OPTIONS) -> Source:
    """Recognise what lies at `path` and open a split of it.

    A folder with train/ and val/ (or test/) folders, in whatever case and form (`splits`), has those splits, and labels
    are positions among the class folders of train/; `val` and `test` stand in for one another where a data set has
    only one of them. A plain folder of images is taken as the split that is asked for.

    Args:
        options: what to read where there is a choice.

    Raises:
        UserError: nothing there, nothing that is understood, or no such split.
    """
    path = Path(path).expanduser()
    if split not in SPLITS:
        raise UserError(
            f"split '{split}' is unknown", allowed=", ".join(SPLITS), next=instead("--split", split, SPLITS)
        )
    shards = expanded(path)
    if not shards and not path.exists():
        raise UserError(f"{path} does not exist", allowed=UNDERSTOOD, next="name one that is there")
    whole = split if options.hold_out is None else "train"
    try:
        if shards:
            opened = open_shards(path, shards, whole, options)
        else:
            opened = _open_folder(path, whole, options) if path.is_dir() else _open_file(path, whole, options)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}", next="check access, or download it again") from error
    options.check_used(opened)
    if options.hold_out is not None:
        opened = part(opened, split, options, other_splits(opened, path))
    opened.opened, opened.read_with = path, options.noted()
    return opened


def _open_file(path: Path, split: str, options: ReadOptions) -> Source:
    if not path.is_file():
        raise UserError(
            f"{path} is a pipe, a socket or a device, which is not opened",
            allowed=UNDERSTOOD,
            next="name one that is there",
        )
    return open_file(path, split, options)


def _open_folder(path: Path, split: str, options: ReadOptions) -> Source:
    opened: Source | None
    for opener in () if options.layout else (open_idx, open_cifar, open_stl10, open_arrays):
        for folder in _candidates(path):
            opened = opener(folder, split)
            if opened is not None:
                report_beside_arrays(path, opened)
                return opened
    layout = choose_layout(path, options.layout)
    shards = None if not layout.shards and has_images(path) else find_shard_folder(path, split)
    if shards is not None:
        training = None if shards.training is None else tar_files(shards.training) or parquet_files(shards.training)
        if tars := tar_files(shards.place):
            opened = open_tar_shards(tars, split, options.member, training, options.class_folders)
        else:
            opened = open_parquet(shards.place, split, options, training)
        report_beside_archives(path, shards.place, opened)
    elif not has_images(path) and has_arrays(path):
        opened = NumpyFolder(path, split, options.class_folders)
    elif (files := _of_hdf5(path, split, options)) is not None:
        opened = files
    else:
        inside = [path / name for name in _IMAGES_INSIDE if (path / name).is_dir()]
        opened = ImageFolder(inside[0] if inside else path, split, options.class_folders)
    if layout.note:
        opened.scan_report.note(layout.note)
    return opened


def _of_hdf5(path: Path, split: str, options: ReadOptions) -> Source | None:
    """The HDF5 files in a folder without image files: beside these they are features or weights."""
    if has_images(path):
        return None
    direct = [folder for folder in _candidates(path) if hdf5_files_in(folder)]
    return open_hdf5_folder(direct[0] if direct else path, split, options)


def _candidates(path: Path) -> list[Path]:
    return [path, *(path / inside for inside in _INSIDE if (path / inside).is_dir())]
