"""The images of a run as a small file beside it, so that it can be said later what became of them.

A line per image (or, of a great many images, a line per folder), gzip-compressed: size, checksum, label and name.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from barlowctl import shell
from barlowctl.data.sources.fingerprint import Extents
from barlowctl.data.sources.picture import Source
from barlowctl.errors import UserError

MOST = 500_000
"""Images that are listed one by one; of more, their folders are."""
NAMED = 3
"""Names of each kind of change that are said."""

Row = tuple[int, ...]


@dataclass(frozen=True)
class ImageList:
    """What was noted of a set of images.

    rows: name -> (size, checksum, label); with `by_folder` folder -> (images, checksum over them). samples: name of an
    image -> checksum of its first bytes.
    """

    by_folder: bool
    rows: Mapping[str, Row]
    samples: Mapping[str, int]


def note(source: Source, extents: Extents, by_folder: bool | None = None) -> ImageList:
    """What there is to note of a source. by_folder: None where there are more than `MOST` images."""
    samples = {source.describe(index)[0]: crc for index, crc in extents.samples.items()}
    images = (
        (*source.describe(index), int(extents.sizes[index]), int(extents.checksums[index]))
        for index in range(len(source))
    )
    if not (len(source) > MOST if by_folder is None else by_folder):
        return ImageList(False, {name: (size, crc, label) for name, label, size, crc in images}, samples)
    folders: dict[str, Row] = {}
    for name, label, size, crc in images:
        folder = name.rpartition("/")[0]
        count, checksum = folders.get(folder, (0, 0))
        line = f"{label}\t{size}\t{crc}\t{name}\n".encode("utf-8", "surrogateescape")
        folders[folder] = count + 1, zlib.crc32(line, checksum)
    return ImageList(True, folders, samples)


def pack(noted: ImageList) -> bytes:
    """The file's bytes."""
    head = {"format": 1, "by": "folder" if noted.by_folder else "image", "samples": noted.samples}
    lines = [json.dumps(head), *("\t".join([*map(str, row), json.dumps(name)]) for name, row in noted.rows.items())]
    return gzip.compress("\n".join(lines).encode() + b"\n", compresslevel=5, mtime=0)


def read(path: Path) -> ImageList | None:
    """A file that `pack` made; None where there is none.

    Raises:
        UserError: it is damaged.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            head: dict[str, Any] = json.loads(next(stream))
            rows = {}
            for line in stream:
                *numbers, name = line.rstrip("\n").split("\t", 2 if head["by"] == "folder" else 3)
                rows[json.loads(name)] = tuple(map(int, numbers))
        return ImageList(head["by"] == "folder", rows, head["samples"])
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, KeyError, StopIteration, zlib.error) as error:
        raise UserError(
            f"'{path}' is damaged: {error}",
            allowed="no such file: whether the images are the same is then seen, but not what changed",
            next=f"{shell.line('rm', path)} && barlowctl ...",
        ) from error


def changes(before: ImageList, now: ImageList) -> list[str]:
    """What became of the images, for people: "30 gone (a.jpg, b.jpg, c.jpg, ...)"; empty where nothing did.

    Both are noted alike, by folder or not.
    """
    assert before.by_folder == now.by_folder
    if before.by_folder:
        return list(_of_folders(before.rows, now.rows))
    gone = [name for name in before.rows if name not in now.rows]
    more = [name for name in now.rows if name not in before.rows]
    both = [(name, row, now.rows[name]) for name, row in before.rows.items() if name in now.rows]
    sizes = [name for name, old, new in both if old[:2] != new[:2]]
    labels = [name for name, old, new in both if old[2:] != new[2:]]
    contents = [name for name, crc in before.samples.items() if now.samples.get(name, crc) != crc and name not in sizes]
    differences = [
        f"{len(more):,} more ({_some(more)})" if more else "",
        f"{len(gone):,} gone ({_some(gone)})" if gone else "",
        f"sizes of {len(sizes):,} differ ({_some(sizes)})" if sizes else "",
        f"other pictures under the same names and sizes ({_some(contents)})" if contents else "",
        f"labels of {len(labels):,} differ ({_some(labels)})" if labels else "",
    ]
    differences = [text for text in differences if text]
    if not differences and list(before.rows) != list(now.rows):
        return ["the same images in another order"]
    return differences


def _of_folders(before: Mapping[str, Row], now: Mapping[str, Row]) -> Iterator[str]:
    for folder in {**before, **now}:
        old, new = before.get(folder, (0, 0)), now.get(folder, (0, 0))
        where = f"in {folder or 'the folder itself'}"
        if old[0] != new[0]:
            yield f"{abs(new[0] - old[0]):,} {'more' if new[0] > old[0] else 'gone'} {where}"
        elif old != new:
            yield f"names, sizes or labels differ {where}"


def _some(names: list[str]) -> str:
    escaped = [name.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n") for name in names[:NAMED]]
    return ", ".join(escaped) + (", ..." if len(names) > NAMED else "")
