"""Which images an iteration has: an endless shuffled stream, its images grouped by orientation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from barlowctl.data.views import draws
from barlowctl.errors import UserError


class IterationSampler:
    """The images of each iteration, the same on any number of ranks.

    The stream is one shuffled pass over the images after another (detectron2's `TrainingSampler`). Images that are
    wider than high and the others gather in a group each; a group that is complete leaves, in the order of completion,
    and what is left over waits for the next pass (detectron2's `AspectRatioGroupedDataset`). An iteration is the next
    groups, as many as make a batch. Rank r of W takes rows n r / W to n (r + 1) / W of it.

    Deviation: detectron2 deals the stream to the ranks first and groups there, so that which images meet in an
    iteration depends on the number of ranks. Here a group is dealt out. With `group` = `batch_size` all images of an
    iteration are of one orientation, as there on one GPU: little is padded on any number of ranks. With `group` = 2 of
    a batch of 16 each of eight ranks has two images of one orientation, as there on eight GPUs.

    Args:
        members: int64 (n,), positions of the images. wide: bool (n,), whether each is wider than high.
        batch_size: over all ranks. seed: of the order. group: images of one orientation; None: the whole batch.

    Raises:
        UserError: no images, or sizes that cannot be shared.
    """

    def __init__(
        self, members: np.ndarray, wide: np.ndarray, *, batch_size: int, seed: int, group: int | None = None
    ) -> None:
        self.members, self.wide = np.asarray(members, dtype=np.int64), np.asarray(wide, dtype=bool)
        self.batch_size, self.seed = batch_size, seed
        self.group = batch_size if group is None else group
        if not len(self.members):
            raise UserError("there is no image with an object to train on")
        if batch_size < 1 or self.group < 1 or batch_size % self.group:
            raise UserError(
                f"a batch of {batch_size} images cannot be made of groups of {self.group}",
                allowed=f"a divisor of {batch_size}",
            )
        self._first = 0  # the number of the first group in `_groups`
        self._groups = np.empty((0, self.group), dtype=np.int64)
        self._passes = self._groups_by_pass()

    def rows(self, iteration: int) -> np.ndarray:
        """int64 (batch_size,): positions of an iteration's images, group after group. Quick in ascending order."""
        per_iteration = self.batch_size // self.group
        first = iteration * per_iteration
        if first < self._first:
            self._first, self._groups, self._passes = 0, self._groups[:0], self._groups_by_pass()
        while self._first + len(self._groups) < first + per_iteration:
            new = next(self._passes)
            keep = max(0, min(first - self._first, len(self._groups)))  # groups before this iteration are dropped
            self._groups = np.concatenate([self._groups[keep:], new])
            self._first += keep
        at = first - self._first
        return self._groups[at : at + per_iteration].ravel()

    def _groups_by_pass(self) -> Iterator[np.ndarray]:
        """The groups that each pass over the images completes, (m, group), in the order of completion."""
        waiting = {True: np.empty(0, np.int64), False: np.empty(0, np.int64)}
        epoch = 0
        while True:
            order = draws.epoch_order(len(self.members), self.seed, epoch)
            complete, ends = [], []
            for orientation, left_over in waiting.items():
                places = np.flatnonzero(self.wide[order] == orientation)
                queue = np.concatenate([left_over, self.members[order[places]]])
                count = len(queue) // self.group
                complete.append(queue[: count * self.group].reshape(count, self.group))
                last = np.arange(1, count + 1) * self.group - 1 - len(left_over)
                ends.append(places[last])
                waiting[orientation] = queue[count * self.group :]
            yield np.concatenate(complete)[np.argsort(np.concatenate(ends))]
            epoch += 1
