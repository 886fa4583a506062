"""The plain loader: torchvision for pixels, the same draws as the fast one. No ffcv needed.

It reads a `.beton` file, or any `Source` as it lies (a folder of images), and is the fast kernels' slow
twin: one image, one view, one torchvision function per operation, in float, rounded once at the end.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Unpack

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from barlowctl.cores import usable_cores
from barlowctl.data.images.brightness import describe_looks
from barlowctl.data.images.conversion import Conversion
from barlowctl.data.images.pixels import convert_values, decode_picture
from barlowctl.data.images.unreadable import Problem, Unreadable, UnreadableImage
from barlowctl.data.loaders.fast import SUBSTITUTES, Batch, Loader, OnUnreadable, check_common
from barlowctl.data.loaders.plan import EpochPlan, Sharing
from barlowctl.data.names import written
from barlowctl.data.sources.fingerprint import Extents, Fingerprint, digest, first_bytes, look_over
from barlowctl.data.sources.image_list import ImageList, note
from barlowctl.data.sources.picture import Picked, Source
from barlowctl.data.sources.sample import conversion_of, how_they_look
from barlowctl.data.views import draws, photometric
from barlowctl.data.views.spec import CenterSpec, Spec, SquashSpec, ViewSpec
from barlowctl.errors import UserError

MODES = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}


class ImageSource(Protocol):
    """What the plain loader reads: a `Beton`, or `Pictures`."""

    path: Path
    num_samples: int
    labels: np.ndarray  # int64 (n,), -1 unlabelled

    def image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8; raises UserError or OSError when it cannot be read."""


class Pictures:
    """A `Source` (image folder, IDX files, ...) as it lies, decoded when asked for.

    path, num_samples, labels, class_names: as in `Beton`.    scan_report: the source's.
    conversion: what becomes of more than 8 bits, transparency and bands; None: the defaults, for this source.
    """

    def __init__(self, source: Source, conversion: Conversion | None = None) -> None:
        self._source = source
        self.conversion = conversion or conversion_of(source)
        self.path = source.path
        self.scan_report = source.scan_report
        self.num_samples = len(source)
        self.labels = np.array([source.describe(i)[1] for i in range(len(source))], dtype=np.int64)
        self.class_names = list(source.class_names)

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
        """One image, (H, W, 3) uint8, upright and in 8 bits as packing would make it.

        Raises:
            UnreadableImage: names the file.
        """
        try:
            data = self._source[index].data
            decode = decode_picture if isinstance(data, bytes) else convert_values
            pixels = decode(data, self.conversion).pixels  # type: ignore[arg-type]
            return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
        except (OSError, Unreadable) as error:
            raise UnreadableImage.of(self.path, self.name_of(index), error) from error

    def look(self) -> None:
        """Look at some of the images, and note in the report what range their values have and whether they show
        anything. In the process that opens them: workers then need not measure again.
        """
        unknown = self.conversion.ranges.decide()
        found, looked_at = how_they_look(self._source, self.conversion)
        looks = describe_looks(found, looked_at, bool(self.conversion.ranges.used))
        for line in [*self.conversion.notes(), *unknown, *looks]:
            self.scan_report.note(line)


def make_view(image: torch.Tensor, spec: Spec, parameters: draws.Draw | None) -> torch.Tensor:
    """One view of one image through torchvision's functions.

    Args:
        image: float32 (C, H, W) in [0, 1]. parameters: of a `ViewSpec`; None for the others.

    Returns:
        float32 (C, S, S) in [0, 1], not rounded.
    """
    mode = MODES[spec.interpolation]
    if isinstance(spec, CenterSpec):
        image = F.resize(image, [spec.resize], mode, antialias=True).clamp(0, 1)
        return F.center_crop(image, [spec.crop, spec.crop])
    if isinstance(spec, SquashSpec):
        return F.resize(image, [spec.size, spec.size], mode, antialias=True).clamp(0, 1)
    assert parameters is not None
    box = (parameters.top, parameters.left, parameters.height, parameters.width)
    side = spec.size if spec.patch is None else spec.patch.grid * spec.patch.cell
    image = F.resized_crop(image, *box, [side, side], mode, antialias=True).clamp(0, 1)
    if spec.patch is not None:
        image = F.crop(image, parameters.window_top, parameters.window_left, spec.size, spec.size)
    if parameters.flip:
        image = F.horizontal_flip(image)
    return distort(image, parameters)


def distort(image: torch.Tensor, parameters: draws.Draw) -> torch.Tensor:
    """The photometric chain on float32 (C, S, S) in [0, 1]: jitter, `enhance`, grayscale, blur, solarise, `corrupt`."""
    gray = parameters.grayscale and image.shape[0] == 3
    if gray and parameters.grayscale_first:
        image = F.rgb_to_grayscale(image, num_output_channels=3)
    if parameters.jitter:
        adjust = (
            lambda x: (
                F.adjust_brightness(x, parameters.brightness)
                if parameters.shift == 0
                else (x + parameters.shift / 255).clamp(0, 1)
            ),
            lambda x: F.adjust_contrast(x, parameters.contrast),
            lambda x: F.adjust_saturation(x, parameters.saturation),
            lambda x: F.adjust_hue(x, parameters.hue),
        )
        for operation in photometric.ORDERS[parameters.order]:
            image = adjust[operation](image)
    if parameters.autocontrast:
        image = enhance(image, parameters)
    if gray and not parameters.grayscale_first:
        image = F.rgb_to_grayscale(image, num_output_channels=3)
    if parameters.sigma > 0:
        radius = min(math.ceil(3 * parameters.sigma), image.shape[-1] - 1)
        if radius > 0:
            kernel = [2 * radius + 1, 2 * radius + 1]
            image = F.gaussian_blur(image, kernel, [parameters.sigma, parameters.sigma])
    if parameters.solarize and parameters.threshold <= 255:
        image = F.solarize(image, parameters.threshold / 255)
    return corrupt(image, parameters)


def enhance(image: torch.Tensor, parameters: draws.Draw) -> torch.Tensor:
    """PIRL's posterise, sharpness, solarise and autocontrast; whole levels where `enhancement` has them."""
    levels = (image * 255 + 0.5).to(torch.uint8)
    image = F.posterize(levels, parameters.bits).to(torch.float32) / 255
    image = F.adjust_sharpness(image, parameters.sharpness)
    if parameters.invert <= 255:
        image = F.solarize(image, (parameters.invert - 0.5) / 255)
    return F.autocontrast(image)


def corrupt(image: torch.Tensor, parameters: draws.Draw) -> torch.Tensor:
    """What goes beyond the paper's chain: gamma, then the erased rectangle."""
    if parameters.gamma != 1.0:
        image = F.adjust_gamma(image, parameters.gamma)
    if parameters.erase_height == 0:
        return image
    box = (parameters.erase_top, parameters.erase_left, parameters.erase_height, parameters.erase_width)
    levels = (parameters.erase_red, parameters.erase_green, parameters.erase_blue)[: image.shape[0]]
    return F.erase(image, *box, torch.tensor(levels, dtype=image.dtype)[:, None, None] / 255)


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
            raise

    def _pixels(self, sample: int) -> np.ndarray:
        """uint8 (H, W, C); one channel is the luminance."""
        image = self.source.image(sample)
        if self.channels == 3:
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


class PlainLoader(Loader):
    """Views through torchvision, in worker processes; the interface, order and draws of `FastLoader`.

    Args:
        source: a `Beton`, or `Pictures`. threads: worker processes; 0: in this process.
        The others: as in `FastLoader`. Batches are not reused: `Batch.hold` has nothing to do.

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
        check_common(views, channels, on_unreadable)
        super().__init__(EpochPlan(source.num_samples, path=source.path, **sharing))
        self.source = source
        self._rows = _Rows(source, views, channels, self.plan, on_unreadable)
        self._labels = np.asarray(source.labels, dtype=np.int64)
        self._workers = max(0, min(threads, usable_cores()))
        self._pin_memory = pin_memory

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Generator[Batch, None, None]:
        """See `Loader.epoch`; exceptions of a worker are raised here."""
        self.plan.check_start(epoch, start_batch)
        return self._epoch(epoch, start_batch)

    def _epoch(self, epoch: int, start_batch: int) -> Generator[Batch, None, None]:
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
                yield Batch(views=tuple(views), labels=labels, indices=indices, keys=keys).readable()
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
