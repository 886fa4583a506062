"""Which reader opens a file that is given as the source: its content decides, not its name."""

from __future__ import annotations

from pathlib import Path

from barlowctl import shell
from barlowctl.data.images import formats
from barlowctl.data.sources.array_sources import open_idx
from barlowctl.data.sources.file_kind import BY_ENDING, Kind, kind_of
from barlowctl.data.sources.hdf5_images import open_hdf5
from barlowctl.data.sources.image_file import ImageFile
from barlowctl.data.sources.image_folder import UNDERSTOOD
from barlowctl.data.sources.numpy_images import open_archive, open_array
from barlowctl.data.sources.parquet_source import ParquetImages
from barlowctl.data.sources.path_list import PathList
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.read_options import ReadOptions
from barlowctl.data.sources.tar_shards import TarShards
from barlowctl.data.sources.zip_folder import ZipFolder
from barlowctl.data.tree.regular import read_head
from barlowctl.errors import UserError


def open_file(path: Path, split: str, options: ReadOptions) -> Source:
    """Open an archive, a table, an IDX file, a list of paths or a single image.

    Raises:
        UserError: none of these, or as its reader does.
        OSError: it cannot be read.
    """
    kind, named = kind_of(path), BY_ENDING.get(path.suffix.lower())
    if kind == "text" and named is not None:
        try:
            return PathList(path, split)
        except UserError:  # text, but no list: a damaged archive
            kind = named
    return _open_as(kind, path, split, options)


def _open_as(kind: Kind, path: Path, split: str, options: ReadOptions) -> Source:
    match kind:
        case "tar":
            return TarShards([path], split, member=options.member, class_folders=options.class_folders)
        case "zip":
            return ZipFolder(path, split, options.class_folders)
        case "parquet":
            return ParquetImages([path], split, options=options)
        case "idx":
            opened = open_idx(path.parent, split, only=path)
            assert opened is not None
            return opened
        case "image":
            return ImageFile(path, split)
        case "text":
            return PathList(path, split)
        case "compressed tar":
            raise UserError(
                f"{path} is a compressed tar file, which cannot be read in parts",
                allowed="uncompressed tar files, or the folder that it was unpacked to",
                next=shell.line("tar", "xf", path),
            )
        case "numpy archive":
            return open_archive(path, split, options) or ZipFolder(path, split, options.class_folders)
        case "numpy array":
            return open_array(path, split) or ImageFile(path, split)
        case "hdf5":
            return open_hdf5(path, split, options)
        case "packed":
            raise UserError(f"{path} is packed already", next=shell.line("barlowctl", "data", "info", path))
        case "compressed hdf5":
            raise UserError(
                f"{path} is a compressed HDF5 file, which cannot be read in parts",
                allowed="the file that is in it",
                next=shell.line("gunzip", path),
            )
        case _:
            content = formats.by_content(read_head(path))
            what = "is empty" if path.stat().st_size == 0 else "is a file of no known kind"
            if content is not None:
                what = f"is none of the kinds that are read: its content is that of {content.kind}"
            raise UserError(f"{path} {what}", allowed=UNDERSTOOD, next=formats.next_step(content) if content else None)
