"""Images into packed files: `pack`, and what stands in the data home for images that a run was given in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from barlowctl import launcher
from barlowctl.amounts import counted
from barlowctl.api.arguments import checked
from barlowctl.api.options import ImagesLike
from barlowctl.api.pictures import folder_of, in_memory
from barlowctl.api.process import as_a_command
from barlowctl.assemble.data import choices_of, of_bands
from barlowctl.assemble.model import preprocessing_of
from barlowctl.cores import usable_cores
from barlowctl.data import home, sources
from barlowctl.data.beton.pack import PackReport, check_options
from barlowctl.data.beton.pack import pack as write_packed
from barlowctl.data.beton.reader import Beton
from barlowctl.data.images.conversion import Choices, parse_bands
from barlowctl.data.images.unreadable import OnMeasuring
from barlowctl.data.sources.fingerprint import digest, look_over
from barlowctl.data.sources.hold_out import part
from barlowctl.data.sources.in_memory import InMemory
from barlowctl.data.sources.items import Items
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.read_options import ReadOptions
from barlowctl.data.sources.sample import conversion_of
from barlowctl.data.sources.tables import plain
from barlowctl.errors import UserError
from barlowctl.files import remove
from barlowctl.output_paths import check_file
from barlowctl.recipe.schema import Recipe


@dataclass(frozen=True)
class Packed:
    """What was packed; it stands wherever images are named (`data=packed`).

    Attributes:
        data: the name in the data home, or the file. reports: what became of the images, by split.
    """

    data: str
    reports: Mapping[str, PackReport]

    def __fspath__(self) -> str:
        return self.data

    def __repr__(self) -> str:
        splits = (f"{split}={counted(report.samples, 'image')}" for split, report in self.reports.items())
        return f"{type(self).__name__}({', '.join([repr(self.data), *splits])})"


class Reading(TypedDict, total=False):
    """What to read of files where there is a choice: the flags of `barlowctl data pack`."""

    layout: Literal["folder", "shards"] | None
    member: str | None
    class_folders: Literal["outer", "inner"] | None
    groups: str | None
    groups_column: str | None
    image_column: str | None
    label_column: str | None


@checked
def pack(
    images: ImagesLike,
    out: str | PathLike[str],
    split: Literal["train", "val", "test", "unlabelled"] | None = None,
    *,
    hold_out: int | None = None,
    store: Literal["auto", "jpeg", "raw"] = "auto",
    quality: int = 95,
    shorter_side: int | None = None,
    range: str = "auto",
    background: str = "white",
    bands: str = "",
    on_unreadable: OnMeasuring = "raise",
    overwrite: bool = False,
    workers: int | None = None,
    **options: Unpack[Reading],
) -> Packed:
    """Images into one file a split that the fast loader reads, as `barlowctl data pack` does.

    Args:
        images: what the command packs, by its path; or a torch or torchvision data set, a list of images, an array
            (N, H, W) or (N, H, W, C), a tuple of these and their labels, or a dictionary of them by split.
        out: a name, kept in the data home; or a file FILE.beton.
        split: of the images, and in the data set; None: "train", and of a dictionary all that it has.
        hold_out: of labelled images without a test split, this percentage of each class becomes one; without `split`
            both are packed.
        store: "auto": JPEG files as they are, small images as pixels, others as JPEG of `quality`; "jpeg"; "raw".
        shorter_side: larger images are made smaller. range, background, bands: see the command.
        on_unreadable: "skip": images that cannot be read are left out, and reported.
        workers: threads; None: the cores. options: see `Reading`.

    Raises:
        UserError: no such images, one that cannot be read, or the file exists and `overwrite` is False.
    """
    with as_a_command():
        launcher.refuse_several("data pack")
        home.dataset_file("images", split or "train")  # an unknown split is refused
        reading = ReadOptions(hold_out=hold_out, **options)
        policy: Literal["skip", "fail"] = "skip" if on_unreadable == "skip" else "fail"
        workers = workers or usable_cores()
        check_options(workers, store, quality, shorter_side, policy)
        choices = Choices(range, background, parse_bands(bands))
        path = Path(images) if isinstance(images, str | PathLike) else None
        given = None if path is not None else _given(images, fspath(out), split, choices)
        splits = _splits(given, split, hold_out)
        targets = _targets(fspath(out), splits, overwrite)
        reports = {}
        for name, target in targets.items():
            source = _source(given or path, name, reading)
            training = None if name == "train" else lambda: _source(given or path, "train", reading)
            taken = of_bands(source, choices) if isinstance(source, Items) else choices
            reports[name] = write_packed(
                source, target, workers=workers, store=store, quality=quality, shorter_side=shorter_side,
                on_unreadable=policy, overwrite=overwrite, conversion=conversion_of(source, taken, training),
            )  # fmt: skip
        return Packed(fspath(out), reports)


@contextmanager
def standing_in(images: Any, recipe: Recipe, begun: Callable[[], bool]) -> Iterator[tuple[str, list[str]]]:
    """A context for what `stand_in` gives: where an error ends it before a run has begun, what it made is removed.

    What was in the data home before, or is a launcher's other processes' too, stays. begun: whether the run has.
    """
    made: list[Path] = []
    try:
        yield stand_in(images, recipe, made)
    except Exception:
        if not begun() and launcher.detect().size == 1:
            for place in made:
                remove(place)
                with suppress(OSError):  # another split is there, or another list
                    place.parent.rmdir()
        raise


def stand_in(images: Any, recipe: Recipe, made: list[Path] | None = None) -> tuple[str, list[str]]:
    """What is trained on for images in memory: a name or path that the run notes, and that is there when it goes on.
    Beside it what should be known of the images, which nobody has read.

    A list of files becomes a folder of links; torchvision's ImageFolder is its folder; all others are packed into the
    data home, once: the name says which images these are.

    Args:
        made: files and folders that are made are added to it.

    Raises:
        UserError: no images, or several processes, each of which would pack them.
    """
    images = plain(images)
    if not hasattr(images, "__getitem__") and isinstance(images, Iterable) and not hasattr(images, "dataset"):
        images = list(images)
    if isinstance(images, list | tuple) and all(isinstance(image, str | PathLike) for image in images):
        return folder_of(images, made), []
    choices = choices_of(preprocessing_of(recipe))
    given = in_memory(images, choices)
    processes = launcher.detect().size
    if processes > 1:
        raise UserError(
            f"data is images in memory ({given.title}), and each of {processes} processes would pack them",
            allowed="images by a name or a path, where several processes train",
            next="barlowctl.pack(dataset, 'NAME') in a program of its own, then data='NAME'",
        )
    if (folder := _folder_of(given.open("train"))) is not None and len(given.images) == 1:
        return folder, []
    opened = {split: given.open(split) for split in ("train", *given.images)}
    name = f"{given.title}-{_digest(opened, choices)[:12]}"
    for split, items in opened.items():
        if not (target := home.dataset_file(name, split)).is_file():
            conversion = conversion_of(items, of_bands(items, choices), lambda: opened["train"])
            policy: Literal["skip", "fail"] = "skip" if recipe.data.on_unreadable == "replace" else "fail"
            write_packed(items, target, workers=usable_cores(), on_unreadable=policy, conversion=conversion)
            if made is not None:
                made.append(target)
    noted = (Beton.open(home.dataset_file(name, split)).info.get("notes", ()) for split in opened)
    return name, list(dict.fromkeys(note for notes in noted for note in notes))


def _given(images: Any, out: str, split: str | None, choices: Choices) -> InMemory:
    """Images in memory, by split. The classes of a split that is packed alone are those of its training split."""
    images = plain(images)
    if isinstance(images, Mapping):
        if split is not None:
            raise UserError(f"split is {split!r}, and the images are a dictionary, which says it", next="without split")
        return in_memory(images, choices)
    training = home.target(out, "train") if split not in (None, "train") else None
    classes = Beton.open(training).class_names if training is not None and _is_packed(training, out) else ()
    return in_memory({split or "train": images}, choices, classes=classes)


def _is_packed(training: Path, out: str) -> bool:
    return training.is_file() and not out.endswith(".beton")


def _splits(given: InMemory | None, split: str | None, hold_out: int | None) -> Sequence[str]:
    if split is not None:
        return [split]
    if hold_out is not None:
        return ["train", "test"]
    return ["train"] if given is None else list(given.images)


def _targets(out: str, splits: Sequence[str], overwrite: bool) -> dict[str, Path]:
    targets = {split: home.target(out, split) for split in splits}
    if len(set(targets.values())) < len(targets):
        raise UserError(
            f"{out!r} is one file, and {len(targets)} splits are packed: {', '.join(targets)}",
            allowed="a name in the data home, which holds a file of each",
            next=f"barlowctl.pack(images, {Path(out).stem!r})",
        )
    for target in targets.values():
        if target.exists() and not overwrite:
            raise UserError(f"{target} exists already", next="overwrite=True, or another name")
        check_file(target, "OUT")
    return targets


def _source(images: InMemory | Path | None, split: str, reading: ReadOptions) -> Source:
    if not isinstance(images, InMemory):
        assert images is not None
        return sources.open_source(images, split, reading)
    items = images.open(split if reading.hold_out is None else next(iter(images.images)))
    reading.check_used(items)
    return items if reading.hold_out is None else part(items, split, reading, list(images.images)[1:])


def _folder_of(items: Items) -> str | None:
    """The folder that torchvision's ImageFolder is of, where it is read as the same images, labels and classes."""
    if (root := items.root) is None:
        return None
    try:
        if home.resolve(root) != root:
            return None
        folder = sources.open_source(root)
    except UserError:
        return None
    same = len(folder) == len(items) and folder.class_names == items.class_names
    rows = range(len(items))
    return str(root) if same and all(folder.describe(row) == items.describe(row) for row in rows) else None


def _digest(opened: Mapping[str, Items], choices: Choices) -> str:
    """What identifies the images, their order and labels, and how they become pixels; of files their times too."""
    hashed = hashlib.sha256(repr(choices).encode())
    for split, items in opened.items():
        files = [file for row in range(len(items)) if (file := items.file(row)) is not None and file.is_file()]
        times = [file.stat().st_mtime_ns for file in files]
        hashed.update(repr((split, digest(items, look_over(items)), items.class_names, times)).encode())
    return hashed.hexdigest()
