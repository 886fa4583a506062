"""Which benchmark a folder holds, by the names of its files, and how its archives are unpacked where they lie."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import NamedTuple

from barlowctl import shell
from barlowctl.amounts import counted
from barlowctl.datasets import DATASETS
from barlowctl.errors import UserError


class _Layout(NamedTuple):
    """markers: patterns of files that a folder in this layout has one of. archives: what they are downloaded as."""

    markers: tuple[str, ...]
    archives: tuple[str, ...]


_VOC07 = tuple(f"{folder}VOC2007/ImageSets/Main" for folder in ("", "VOCdevkit/"))
_LISTS = ("", "trainvalsplit_places205/", "trainvalsplit/trainvalsplit_places205/", "trainvalsplit_places205/" * 2)
_LAYOUTS = {
    "places205": _Layout(
        tuple(f"{folder}*_places205.csv" for folder in _LISTS),
        ("trainvalsplit_places205.tar.gz", "imagesPlaces205_resize.tar.gz"),
    ),
    "inat18": _Layout(
        ("*2018.json", "annotations/*2018.json"),
        ("train2018.json.tar.gz", "val2018.json.tar.gz", "train_val2018.tar.gz"),
    ),
    "voc07": _Layout((*_VOC07, "ImageSets/Main"), ("VOCtrainval_06-Nov-2007.tar", "VOCtest_06-Nov-2007.tar")),
    "voc0712": _Layout(
        (*_VOC07, *(name.replace("2007", "2012") for name in _VOC07)),
        ("VOCtrainval_06-Nov-2007.tar", "VOCtest_06-Nov-2007.tar", "VOCtrainval_11-May-2012.tar"),
    ),
    "coco": _Layout(
        ("annotations/instances_*2017.json",), ("annotations_trainval2017.zip", "train2017.zip", "val2017.zip")
    ),
}


def refuse_others(task: str, path: Path) -> None:
    """Refuse a folder that is no layout of the task, but that of another one, or holds its archives as downloaded.

    Args:
        task: a benchmark's, or "folder", which has no layout of its own.

    Raises:
        UserError: it is; what comes next reads it, or unpacks them.
    """
    if task in _LAYOUTS and _is(task, path):
        return
    if other := next((name for name in _LAYOUTS if name != task and _is(name, path)), None):
        raise UserError(
            f"{path} is in the layout of {DATASETS[other].title}, which the task {task} does not read",
            next=f"--task {other}",
        )
    archives = [path / name for name in _LAYOUTS[task].archives if (path / name).is_file()] if task in _LAYOUTS else []
    if archives:
        raise UserError(
            f"{path} has {counted(len(archives), 'archive')} of {DATASETS[task].title}, and nothing that was in them",
            allowed="the benchmark's folder as published, unpacked",
            next=" && ".join(_unpacking(archive) for archive in archives),
        )


def task_of(path: Path) -> str | None:
    """The task of `transfer` that reads a folder as its benchmark was published; None: it is in no such layout."""
    return next((task for task in _LAYOUTS if _is(task, path)), None)


def _is(task: str, path: Path) -> bool:
    return any(chain.from_iterable(path.glob(marker) for marker in _LAYOUTS[task].markers))


def _unpacking(archive: Path) -> str:
    if archive.suffix == ".zip":
        return shell.line("unzip", "-q", archive, "-d", archive.parent)
    return shell.line("tar", "xf", archive, "-C", archive.parent)
