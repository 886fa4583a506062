"""The plain loader: torchvision for pixels, the same draws as the fast one. No decoder but Pillow.

It reads a `.beton` file, or any `Source` as it lies (a folder of images), one image, one view at a time
(`data.views.reference`), in float, rounded once at the end.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Unpack

import numpy as np
import torch

from barlowctl import shell
from barlowctl.cores import usable_cores
from barlowctl.data.images.brightness import describe_looks
from barlowctl.data.images.conversion import Conversion
from barlowctl.data.images.pixels import convert_values, decode_picture
from barlowctl.data.images.unreadable import Problem, Unreadable, UnreadableImage
from barlowctl.data.loaders.base import SUBSTITUTES, OnUnreadable, ViewLoader, check_common
from barlowctl.data.loaders.batch import ViewBatch
from barlowctl.data.loaders.plan import EpochPlan, Sharing
from barlowctl.data.names import packed_as, written
from barlowctl.data.sources.fingerprint import Extents, Fingerprint, digest, first_bytes, look_over
from barlowctl.data.sources.image_list import ImageList, note
from barlowctl.data.sources.lacking import Lacking
from barlowctl.data.sources.picture import Picked, Source
from barlowctl.data.sources.sample import conversion_of, how_they_look
from barlowctl.data.views import draws
from barlowctl.data.views.reference import make_view
from barlowctl.data.views.spec import Spec, ViewSpec
from barlowctl.errors import UserError
from barlowctl.threads import one_thread


class ImageSource(Protocol):
    """What the plain loader reads: a `Beton`, or `Pictures`."""

    path: Path
    num_samples: int
    labels: np.ndarray  # int64 (n,), -1 unlabelled

    def image(self, index: int) -> np.ndarray:
        """uint8 (H, W, C), C 3 of grey and of colour; raises UserError or OSError when it cannot be read."""


class Pictures:
    """A `Source` (image folder, IDX files, ...) as it lies, decoded when asked for.

    path, num_samples, labels, class_names: as in `Beton`.    scan_report, in_memory: the source's.
    conversion: what becomes of more than 8 bits, transparency and bands; None: the defaults, for this source.
    """

    in_memory = False

    def __init__(self, source: Source, conversion: Conversion | None = None) -> None:
        self._source, self._was_there = source, source.path.exists()  # images in memory have a title there
        self.conversion = conversion or conversion_of(source)
        self._lacking = Lacking(source, self.conversion)
        self.path, self.in_memory, self.scan_report = source.path, source.in_memory, source.scan_report
        if source.in_chunks > 1:
            command = shell.line("barlowctl", "data", "pack", source.path, packed_as(source.path))
            self.scan_report.note(
                f"parts of {source.in_chunks:,} images are unpacked to read one: training, which draws their order, "
                f"waits for that at each image; pack them first: {command}"
            )
        self.num_samples, self.class_names = len(source), list(source.class_names)
        self.labels = np.array([source.describe(i)[1] for i in range(len(source))], dtype=np.int64)

    @property
    def stored_channels(self) -> int:
        """Of the pixels of an image: see `channels.stored_as`."""
        return self.conversion.choices.channels or 3

    def pick(self, rows: np.ndarray) -> Pictures:
        """Some of the images, as images of their own."""
        return Pictures(Picked(self._source, rows), self.conversion)

    def name_of(self, index: int) -> str:
        """What to call an image, as `names.written` has it: for files, the path below the folder."""
        return written(self._source.describe(index)[0])

    @cached_property
    def extents(self) -> Extents:
        """Sizes and the like of the images, looked up once."""
        return look_over(self._source)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What identifies these images."""
        return Fingerprint(False, self.num_samples, digest(self._source, self.extents))

    def listed(self, by_folder: bool | None = None) -> ImageList:
        """Names and sizes, to be compared with later; see `image_list.note`."""
        return note(self._source, self.extents, by_folder)

    def stored(self, index: int) -> bytes:
        """An image as it is stored, its first bytes at least; empty where it cannot be read."""
        return first_bytes(self._source, index)

    def image(self, index: int) -> np.ndarray:
        """One image, uint8 (H, W, `stored_channels`), upright and in 8 bits as packing would make it.

        Raises:
            UnreadableImage: names the file.
        """
        try:
            data = self._source[index].data
            decode = decode_picture if isinstance(data, bytes) else convert_values
            pixels = decode(data, self.conversion).pixels  # type: ignore[arg-type]
            return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
        except (OSError, Unreadable) as error:
            lacking, is_gone = self._lacking.of(error, index), self._was_there and not self.path.exists()
            raise UnreadableImage.of(self.path, self.name_of(index), error, lacking, is_gone=is_gone) from error

    def look(self) -> None:
        """Look at some of the images, and note in the report what range their values have and whether they show
        anything. In the process that opens them: workers then need not measure again.
        """
        unknown = self.conversion.ranges.decide()
        looks, looked_at, bands = how_they_look(self._source, self.conversion)
        lines = describe_looks(looks, looked_at, bool(self.conversion.ranges.used))
        for line in [*self.conversion.notes(), *unknown, *lines, *bands.lines(self.conversion.choices.bands)]:
            self.scan_report.note(line)


class _Rows(torch.utils.data.Dataset[Any]):
    """Makes one rank's share of a batch, in a worker process or in this one. Item: (epoch, source indices)."""

    def __init__(
        self, source: ImageSource, views: Sequence[Spec], channels: int, plan: EpochPlan, on_unreadable: OnUnreadable
    ) -> None:
        self.source, self.views, self.channels = source, tuple(views), channels
        self.plan, self.on_unreadable = plan, on_unreadable
        self._specs = [draws.encode(spec) for spec in views]

    def __getitem__(self, item: tuple[int, np.ndarray]) -> tuple[Any, ...] | UserError:
        epoch, rows = item
        sides = [spec.output_size for spec in self.views]
        out = [torch.empty((len(rows), side, side, self.channels), dtype=torch.uint8) for side in sides]
        indices, problems = rows.copy(), dict[int, Problem]()
        try:
            with one_thread():
                for row, sample in enumerate(rows):
                    image, indices[row] = self._read(epoch, int(sample), problems)
                    if image is None:
                        continue
                    for view, target in enumerate(out):
                        target[row] = self._view(image, epoch, int(sample), view)
        except UserError as error:  # as a value: re-raised from a worker it would lose its parts
            return error
        return tuple(out), torch.from_numpy(indices), torch.from_numpy(rows.copy()), problems

    def _read(self, epoch: int, sample: int, problems: dict[int, Problem]) -> tuple[np.ndarray | None, int]:
        """The pixels of a sample, or of its substitute, and whose they are; None and -1 where it is left out."""
        try:
            return self._pixels(sample), sample
        except UserError as error:
            if self.on_unreadable == "raise":
                raise
            problems[sample] = (
                Problem(error.name, error.reason)
                if isinstance(error, UnreadableImage)
                else Problem(f"sample {sample}", error.message)
            )
            if self.on_unreadable == "skip":
                return None, -1
            for attempt in range(SUBSTITUTES):
                other = self.plan.substitute(epoch, sample, attempt)
                try:
                    return self._pixels(other), other
                except UserError:
                    continue
            if isinstance(error, UnreadableImage) and not error.setting:
                error.next = "give images that can be read"  # others stand in already, and none of them can
            raise

    def _pixels(self, sample: int) -> np.ndarray:
        """uint8 (H, W, C); one channel is the luminance."""
        image = self.source.image(sample)
        if self.channels != 1:
            return image
        from PIL import Image

        return np.array(Image.fromarray(image).convert("L"))[..., None]

    def _view(self, pixels: np.ndarray, epoch: int, sample: int, view: int) -> torch.Tensor:
        """uint8 (S, S, C)."""
        spec, parameters = self.views[view], None
        if isinstance(spec, ViewSpec):
            height, width = pixels.shape[:2]
            parameters = draws.draw(self._specs[view], self.plan.seed, epoch, sample, view, height, width)
        image = torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32) / 255
        made = make_view(image, spec, parameters)
        return (made * 255 + 0.5).clamp(0, 255).to(torch.uint8).permute(1, 2, 0)


class PlainLoader(ViewLoader):
    """Views through torchvision, in worker processes; the interface, order and draws of `FastLoader`.

    Args:
        source: a `Beton`, or `Pictures`. threads: worker processes; 0: in this process.
        The others: as in `FastLoader`. Batches are not reused: `ViewBatch.hold` has nothing to do.

    Raises:
        UserError: as `FastLoader`.
    """

    name = "plain"

    def __init__(
        self,
        source: ImageSource,
        *,
        views: Sequence[Spec],
        channels: int = 3,
        threads: int = 0,
        pin_memory: bool = False,
        on_unreadable: OnUnreadable = "raise",
        **sharing: Unpack[Sharing],
    ) -> None:
        check_common(source, views, channels, on_unreadable)
        super().__init__(EpochPlan(source.num_samples, path=source.path, **sharing))
        self.source = source
        self._rows = _Rows(source, views, channels, self.plan, on_unreadable)
        self._labels = np.asarray(source.labels, dtype=np.int64)
        self._workers = max(0, min(threads, usable_cores()))
        self._pin_memory = pin_memory

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Generator[ViewBatch, None, None]:
        """See `ViewLoader.epoch`; exceptions of a worker are raised here."""
        self.plan.check_start(epoch, start_batch)
        return self._epoch(epoch, start_batch)

    def _epoch(self, epoch: int, start_batch: int) -> Generator[ViewBatch, None, None]:
        order = self.plan.order(epoch)
        items = [(epoch, self.plan.rows(order, batch)) for batch in range(start_batch, self.plan.batches)]
        loader = torch.utils.data.DataLoader(
            self._rows,
            batch_size=None,
            sampler=items,
            num_workers=self._workers,
            pin_memory=self._pin_memory,
            collate_fn=_as_it_is,
            worker_init_fn=_undisturbed,
            generator=torch.Generator(),  # of its own: torch's is the networks' (dropout)
        )
        iterator = _started(loader)
        try:
            for made in self._lost_workers_explained(iterator):
                if isinstance(made, UserError):
                    raise made
                views, indices, keys, problems = made
                self.problems.update(problems)
                labels = torch.from_numpy(self._labels[indices.numpy()])
                yield ViewBatch(views=tuple(views), labels=labels, indices=indices, keys=keys).readable()
        finally:  # an exception's traceback would keep the iterator, and with it the workers, alive
            getattr(iterator, "_shutdown_workers", lambda: None)()

    def _lost_workers_explained(self, iterator: Iterator[Any]) -> Iterator[Any]:
        """What the workers make; one that is gone is a `UserError`."""
        try:
            yield from iterator
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(
                f"a worker process that reads images of {self.source.path} is gone: killed by somebody, or by the "
                "machine because its memory ran out",
                next="--workers 1",
            ) from error


def _started(loader: torch.utils.data.DataLoader[Any]) -> Iterator[Any]:
    """The loader's iterator, with its workers running.

    Torch's handler of SIGCHLD raises an error wherever the process is when a worker dies, in the middle of the
    optimizer's step too. It is taken back: whoever waits for the next batch hears of it, within seconds.
    """
    if threading.current_thread() is not threading.main_thread():  # then torch sets none
        return iter(loader)
    before = signal.getsignal(signal.SIGCHLD)
    iterator = iter(loader)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)
    return iterator


def _undisturbed(worker: int) -> None:
    """A worker ends when its parent tells it to, or is gone: Ctrl-C and a closed terminal reach the parent too."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _as_it_is(item: Any) -> Any:
    return item
