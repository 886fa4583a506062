"""Which images an iteration has: an endless shuffled stream, its images grouped by orientation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from barlowctl.data.views import draws
from barlowctl.errors import UserError


class IterationSampler:
    """The images of each iteration, the same on any number of ranks.

    The stream is one shuffled pass over the images after another (detectron2's `TrainingSampler`). Images that are
    wider than high and the others gather in a group each; a group that makes a batch is the next iteration, and what is
    left over waits for the next pass (detectron2's `AspectRatioGroupedDataset`). Rank r of W takes rows n r / W to
    n (r + 1) / W of it.

    Deviation: detectron2 deals the stream to the ranks first and groups there, so that which images meet in an
    iteration depends on the number of ranks. Here all images of an iteration are of one orientation, as there on one
    GPU: little is padded on any number of ranks.

    Args:
        members: int64 (n,), positions of the images. wide: bool (n,), whether each is wider than high.
        batch_size: over all ranks. seed: of the order.

    Raises:
        UserError: no images.
    """

    def __init__(self, members: np.ndarray, wide: np.ndarray, *, batch_size: int, seed: int) -> None:
        self.members, self.wide = np.asarray(members, dtype=np.int64), np.asarray(wide, dtype=bool)
        self.batch_size, self.seed = batch_size, seed
        if not len(self.members):
            raise UserError("there is no image with an object to train on")
        self._first = 0  # the iteration of the first row of `_batches`
        self._batches = np.empty((0, batch_size), dtype=np.int64)
        self._passes = self._batches_by_pass()

    def rows(self, iteration: int) -> np.ndarray:
        """int64 (batch_size,): positions of an iteration's images. Quick in ascending order."""
        if iteration < self._first:
            self._first, self._batches, self._passes = 0, self._batches[:0], self._batches_by_pass()
        while self._first + len(self._batches) <= iteration:
            new = next(self._passes)
            keep = min(iteration - self._first, len(self._batches))  # what precedes this iteration is dropped
            self._batches = np.concatenate([self._batches[keep:], new])
            self._first += keep
        return self._batches[iteration - self._first]

    def _batches_by_pass(self) -> Iterator[np.ndarray]:
        """The batches that each pass over the images completes, (m, batch_size), in the order of completion."""
        waiting = {True: np.empty(0, np.int64), False: np.empty(0, np.int64)}
        epoch = 0
        while True:
            order = draws.epoch_order(len(self.members), self.seed, epoch)
            complete, ends = [], []
            for orientation, left_over in waiting.items():
                places = np.flatnonzero(self.wide[order] == orientation)
                queue = np.concatenate([left_over, self.members[order[places]]])
                count = len(queue) // self.batch_size
                complete.append(queue[: count * self.batch_size].reshape(count, self.batch_size))
                last = np.arange(1, count + 1) * self.batch_size - 1 - len(left_over)
                ends.append(places[last])
                waiting[orientation] = queue[count * self.batch_size :]
            yield np.concatenate(complete)[np.argsort(np.concatenate(ends))]
            epoch += 1
