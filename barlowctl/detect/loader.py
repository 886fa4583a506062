"""Batches to train on, an endless stream of them, and images to test on; decoded ahead by threads."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from barlowctl.data.images.unreadable import Problem, UnreadableImage
from barlowctl.data.loaders.base import SUBSTITUTES
from barlowctl.data.loaders.thread_gpu import current_gpu, work_with
from barlowctl.data.views import streams
from barlowctl.detect.annotations import DetectionImages
from barlowctl.detect.augment import (
    Distortion,
    distort_image,
    distort_objects,
    draw_distortion,
    image_key,
    resized_size,
)
from barlowctl.detect.batch import DetectionBatch, DetectionTarget
from barlowctl.detect.sampler import IterationSampler
from barlowctl.errors import UserError

AHEAD = 2
"""Batches that are decoded while one is worked on."""
SLOT_SUBSTITUTE = 2
"""Of an image's draws, behind those of `augment`."""

T = TypeVar("T")


class _Row(NamedTuple):
    """An image of an iteration: its position in the source, the key of its draws, what happens to it."""

    position: int
    key: int
    distortion: Distortion


class _Made(NamedTuple):
    """A row as a batch has it. position: of the image that is there."""

    image: Tensor
    target: DetectionTarget
    position: int
    key: int


class DetectionLoader:
    """Batches of an endless stream, for training. A batch is a function of (seed, iteration) and the rank's share.

    Threads suffice: Pillow decodes and resizes without the interpreter's lock.

    Args:
        images: those with an object that is no crowd are trained on.
        batch_size: over all ranks. interval: iterations of an "epoch", which is no pass over the images.
        short_sides: one is drawn for every image. longest: limit of the long side. flip: probability.
        workers: threads that decode ahead; 0: when the batch is asked for.
        pin_memory: page-locked images, for copies to a GPU.
        on_unreadable: "raise", or "replace" an image that cannot be read by another of its orientation.

    Attributes:
        batches_per_epoch, samples_per_epoch: of an interval, the latter over all ranks.
        problems: position -> (name, why) of the images that were replaced.

    Raises:
        UserError: nothing to train on.
    """

    name = "detection"
    notify: Callable[[str], None] = staticmethod(lambda text: None)

    def __init__(
        self,
        images: DetectionImages,
        *,
        batch_size: int,
        seed: int,
        interval: int,
        rank: int = 0,
        world_size: int = 1,
        short_sides: tuple[int, ...],
        longest: int,
        flip: float,
        workers: int = 0,
        pin_memory: bool = False,
        on_unreadable: str = "raise",
    ) -> None:
        assert batch_size % world_size == 0, "shares of a batch are equal"
        if on_unreadable not in ("raise", "replace"):
            raise UserError(f"on_unreadable is '{on_unreadable}'", allowed="raise or replace")
        self.images, self.seed, self.interval = images, seed, interval
        self.short_sides, self.longest, self.flip = short_sides, longest, flip
        self.batches_per_epoch, self.samples_per_epoch = interval, interval * batch_size
        self.problems: dict[int, Problem] = {}
        members = images.trainable
        sizes = np.array([images.size(int(index)) for index in members]).reshape(-1, 2)
        wide = sizes[:, 1] > sizes[:, 0]
        self.sampler = IterationSampler(members, wide, batch_size=batch_size, seed=seed)
        self._ranks = world_size
        self._share = slice(batch_size * rank // world_size, batch_size * (rank + 1) // world_size)
        self._replace, self._pin_memory = on_unreadable == "replace", pin_memory
        started = (work_with, (current_gpu(pin_memory),))
        self._pool = ThreadPoolExecutor(workers, "detection", *started) if workers > 0 else None

    @property
    def unreadable(self) -> list[int]:
        """Positions of the images that could not be read."""
        return sorted(self.problems)

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Generator[DetectionBatch, None, None]:
        """Iterations epoch x interval + start_batch to (epoch + 1) x interval - 1. Closing the generator stops it."""
        first, end = epoch * self.interval + start_batch, (epoch + 1) * self.interval
        canvases: deque[tuple[int, int]] = deque()

        def tasks(iteration: int) -> list[Callable[[], _Made]]:
            rows, canvas = self._plan(iteration)
            canvases.append(canvas)
            return [partial(self._make, row, canvas) for row in rows]

        for made in _in_order(self._pool, (tasks(iteration) for iteration in range(first, end))):
            yield DetectionBatch(
                images=[row.image for row in made],
                targets=[row.target for row in made],
                indices=torch.tensor([row.position for row in made], dtype=torch.int64),
                keys=torch.tensor([row.key >> 1 for row in made], dtype=torch.int64),  # 64 bits without a sign
                canvas=canvases.popleft(),
            )

    def shares(self, batch: int) -> list[int]:
        """How many images of any iteration each rank has: equally many."""
        return [self._share.stop - self._share.start] * self._ranks

    def close(self) -> None:
        """End the threads; harmless when repeated."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> DetectionLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _plan(self, iteration: int) -> tuple[list[_Row], tuple[int, int]]:
        """This rank's rows of an iteration, and the height and width that hold all ranks'."""
        rows, times = [], Counter[int]()
        for position in self.sampler.rows(iteration).tolist():
            key = image_key(self.seed, iteration, position, times[position])
            times[position] += 1
            rows.append(_Row(position, key, self._draw(key, position)))
        canvas = max(row.distortion.height for row in rows), max(row.distortion.width for row in rows)
        return rows[self._share], canvas

    def _draw(self, key: int, position: int) -> Distortion:
        return draw_distortion(key, self.images.size(position), self.short_sides, self.longest, self.flip)

    def _make(self, row: _Row, canvas: tuple[int, int]) -> _Made:
        position, key, distortion = row
        try:
            pixels = self.images.image(position)
        except UnreadableImage as error:
            if not self._replace:
                raise
            self.problems[position] = Problem(error.name, error.reason)
            position, pixels = self._substitute(row, error)
            distortion = _within(self._draw(key, position), canvas)
        image = distort_image(pixels, distortion)
        annotation, size = self.images.annotation(position), self.images.size(position)
        boxes, labels, polygons = distort_objects(annotation, size, distortion)
        target = DetectionTarget(torch.from_numpy(boxes), torch.from_numpy(labels), polygons)
        return _Made(image.pin_memory() if self._pin_memory else image, target, position, key)

    def _substitute(self, row: _Row, error: UnreadableImage) -> tuple[int, np.ndarray]:
        """Another image of the same orientation that can be read, and its pixels; drawn by the key of the row."""
        height, width = self.images.size(row.position)
        candidates = self.sampler.members[self.sampler.wide == (width > height)]
        for attempt in range(SUBSTITUTES):
            drawn = streams.below(np.uint64(row.key), SLOT_SUBSTITUTE + attempt, len(candidates))
            position = int(candidates[drawn])
            try:
                return position, self.images.image(position)
            except UnreadableImage:
                continue
        raise error


def undistorted_images(
    images: DetectionImages, *, positions: Sequence[int], short_side: int, longest: int, workers: int = 0
) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Images to test on, in order and undistorted: uint8 (3, H, W) each, and its height and width before.

    Raises:
        UnreadableImage: when it is its turn.
    """
    positions = tuple(positions)  # who reads them may cross them off the list

    def make(position: int) -> Tensor:
        height, width = resized_size(*images.size(position), short_side, longest)
        return distort_image(images.image(position), Distortion(height, width, False))

    with ThreadPoolExecutor(max(workers, 1), "detection") as pool:
        tasks = ([partial(make, position)] for position in positions)
        for position, (image,) in zip(positions, _in_order(pool if workers > 0 else None, tasks), strict=True):
            yield image, images.size(position)


def _in_order(pool: ThreadPoolExecutor | None, batches: Iterable[Sequence[Callable[[], T]]]) -> Generator[list[T]]:
    """The results of each batch of tasks. With a pool, those of the next `AHEAD` batches are under way."""
    if pool is None:
        for tasks in batches:
            yield [task() for task in tasks]
        return
    pending: deque[list[Future[T]]] = deque()
    try:
        for tasks in batches:
            pending.append([pool.submit(task) for task in tasks])
            if len(pending) > AHEAD:
                yield [future.result() for future in pending[0]]
                pending.popleft()
        while pending:
            yield [future.result() for future in pending[0]]
            pending.popleft()
    finally:
        for futures in pending:
            for future in futures:
                future.cancel()


def _within(distortion: Distortion, canvas: tuple[int, int]) -> Distortion:
    """As large, or as large as the canvas holds: other ranks know the canvas, and not of the substitute."""
    height, width, flip = distortion
    scale = min(1.0, canvas[0] / height, canvas[1] / width)
    return distortion if scale == 1.0 else Distortion(max(1, int(height * scale)), max(1, int(width * scale)), flip)
