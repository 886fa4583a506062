"""Batches of views from a `.beton` file: decode once, resample per view, distort, uint8 out.

`FastLoader` is an order, a few threads that call one compiled kernel over chunks of a batch with the
interpreter lock released, and a ring of reused output buffers. `plain.PlainLoader` has the same interface.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch

from barlowctl.cores import usable_cores
from barlowctl.data.beton import decode
from barlowctl.data.beton.decoders import Decoder
from barlowctl.data.images.unreadable import Problem, UnreadableImage
from barlowctl.data.loaders.base import SUBSTITUTES, OnUnreadable, ViewLoader, check_common
from barlowctl.data.loaders.batch import ViewBatch
from barlowctl.data.loaders.kernel import FileIndex, Scratch, fill
from barlowctl.data.loaders.plan import EpochPlan, Sharing
from barlowctl.data.loaders.ring import EpochInFlight, Slot
from barlowctl.data.loaders.thread_gpu import current_gpu, work_with
from barlowctl.data.views import draws
from barlowctl.data.views.spec import Spec

if TYPE_CHECKING:
    from barlowctl.data.beton.reader import Beton

BUFFERS = 3  # batches in the ring: one at the consumer, the others ready or being filled
CHUNKS_PER_THREAD = 4


class _Tasks(queue.SimpleQueue[Any]):
    """Chunks to fill; None ends a thread."""


def _work(tasks: _Tasks, gpu: int | None, scratch_arguments: tuple[Any, ...]) -> None:
    """A thread: take chunks until told to end. Knows the loader only through its tasks."""
    work_with(gpu)
    scratch = Scratch(*scratch_arguments)
    while (task := tasks.get()) is not None:
        loader, run, slot, low, high = task
        try:
            if not run.stopped:
                loader._fill(run, slot, low, high, scratch)
        except BaseException as error:  # carried to the consumer
            with run.condition:
                run.error = run.error or error
                run.stopped = True
        finally:
            with run.condition:
                slot.pending -= 1
                run.in_flight -= 1
                run.condition.notify_all()
        del task, loader, run, slot  # a parked thread must not keep a loader alive


def _end(tasks: _Tasks, threads: list[threading.Thread]) -> None:
    for _ in threads:
        tasks.put(None)
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join()


class FastLoader(ViewLoader):
    """Views from a `.beton` file through compiled kernels.

    Pixels depend on (seed, epoch, sample, view) only: not on threads, ranks, batch size or start.
    The threads start with the first epoch, wait between epochs and end with `close`.

    Args:
        source: an opened `Beton`.
        views: one spec per view.
        channels: 3, or 1 for luminance; of bands as many as there are. threads: clamped to the machine's cores.
        pin_memory: page-locked buffers, for copies to a GPU.
        on_unreadable: "raise" an `UnreadableImage`; "replace" by another sample, drawn by (seed, epoch, sample); or
            "skip": its batch is smaller, maybe empty. The latter two are remembered in `problems`.
        buffers: batches in the ring, 2 or more.
        decoder: of JPEGs; None: the one that `decoders` chooses here.
        sharing: batch_size, seed, rank, world_size, drop_last, shuffle, subset (see `plan.Sharing`).

    Raises:
        UserError: bad arguments, or JPEGs where there is no decoder.
    """

    name = "fast"

    def __init__(
        self,
        source: Beton,
        *,
        views: Sequence[Spec],
        channels: int = 3,
        threads: int = 1,
        pin_memory: bool = False,
        on_unreadable: OnUnreadable = "raise",
        buffers: int = BUFFERS,
        decoder: Decoder | None = None,
        **sharing: Unpack[Sharing],
    ) -> None:
        check_common(source, views, channels, on_unreadable)
        super().__init__(EpochPlan(source.num_samples, path=source.path, **sharing))
        self.source = source
        self.channels = channels
        self.threads = max(1, min(threads, usable_cores()))
        self.on_unreadable = on_unreadable
        self._index = FileIndex(source, self.plan.members, decoder)
        self._specs = np.stack([draws.encode(spec) for spec in views])
        self._pin_memory = pin_memory
        self._slots: list[Slot] | None = None
        self._make_slots: Callable[[], list[Slot]] = lambda: [
            Slot(self.plan.share, views, channels, pin_memory) for _ in range(max(2, buffers))
        ]
        self._tasks = _Tasks()
        self._threads: list[threading.Thread] = []
        self._run: EpochInFlight | None = None
        self._finalizer = weakref.finalize(self, _end, self._tasks, self._threads)

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Generator[ViewBatch, None, None]:
        """The batches of epoch `epoch`; a second epoch of the same loader ends the first.

        Raises:
            UserError: a position outside the epoch; an unreadable sample (see `on_unreadable`).
        """
        self.plan.check_start(epoch, start_batch)
        return self._epoch(epoch, start_batch)

    def _epoch(self, epoch: int, start_batch: int) -> Generator[ViewBatch, None, None]:
        slots = self._start()
        run = self._run = EpochInFlight(epoch)
        order = self.plan.order(epoch)
        try:
            for batch in range(start_batch, min(start_batch + len(slots) - 1, self.plan.batches)):
                self._queue(run, slots[batch % len(slots)], self.plan.rows(order, batch))
            for batch in range(start_batch, self.plan.batches):
                ahead = batch + len(slots) - 1  # its slot was the consumer's until now
                if ahead < self.plan.batches:
                    self._queue(run, slots[ahead % len(slots)], self.plan.rows(order, ahead))
                yield self._finished(run, slots[batch % len(slots)], len(self.plan.rows(order, batch)))
        finally:
            run.stop()

    def close(self) -> None:
        """End the threads and drop the buffers; an epoch in flight ends."""
        if self._run is not None:
            self._run.stop()
        if self._finalizer.alive:
            self._finalizer()
        self._slots = None

    def _start(self) -> list[Slot]:
        if not self._finalizer.alive:
            raise RuntimeError("this loader is closed")
        if self._run is not None:
            self._run.stop()
        if self._slots is None:
            self._slots = self._make_slots()
        while len(self._threads) < self.threads:
            arguments = (self._tasks, current_gpu(self._pin_memory), (self._specs, self.channels))
            thread = threading.Thread(target=_work, args=arguments, name="barlowctl-loader", daemon=True)
            thread.start()
            self._threads.append(thread)
        return self._slots

    def _queue(self, run: EpochInFlight, slot: Slot, rows: np.ndarray) -> None:
        """Hand a batch to the threads, in chunks."""
        count = len(rows)
        slot.keys[:count] = slot.indices[:count] = rows
        slot.waits += slot.held_by
        slot.held_by = []
        size = max(1, -(-count // (self.threads * CHUNKS_PER_THREAD)))
        bounds = list(range(0, count, size))
        with run.condition:
            if run.stopped:
                return
            slot.pending = len(bounds)
            run.in_flight += len(bounds)
        for low in bounds:
            self._tasks.put((self, run, slot, low, min(low + size, count)))

    def _finished(self, run: EpochInFlight, slot: Slot, count: int) -> ViewBatch:
        """Wait for a slot; raise what went wrong in a thread."""
        with run.condition:
            run.condition.wait_for(lambda: run.stopped or slot.pending == 0)
            if run.error is not None:
                raise run.error
            if run.stopped:
                raise RuntimeError("this epoch was ended: the loader was closed or began another one")
        if count:
            slot.waits.clear()  # the threads have waited for all of them
        indices = slot.indices[:count].copy()
        batch = ViewBatch(
            views=tuple(view[:count] for view in slot.views),
            labels=torch.from_numpy(self._index.labels[indices]),
            indices=torch.from_numpy(indices),
            keys=torch.from_numpy(slot.keys[:count].copy()),
            _pixels=slot.pixels,
            _held_by=slot.held_by,
        )
        return batch.readable() if self.on_unreadable == "skip" else batch

    def _fill(self, run: EpochInFlight, slot: Slot, low: int, high: int, scratch: Scratch) -> None:
        """Fill rows [low, high) of a slot; in a thread."""
        for event in slot.waits:
            event.synchronize()
        self.source.check_whole()
        self._call(run, slot, low, high, scratch)
        for row in range(low, high):
            if slot.status[row] != decode.OK:
                self._unread(run, slot, row, scratch)

    def _call(self, run: EpochInFlight, slot: Slot, low: int, high: int, scratch: Scratch) -> None:
        """Rows [low, high) in one call of the kernel; image by image where it cannot decode."""
        index = self._index
        scratch.grow(index.heights, index.widths, slot.indices[low:high])
        if not index.decodes_first:
            self._call_kernel(run, slot, low, high, scratch)
            return
        for row in range(low, high):
            slot.status[row] = index.decode(int(slot.indices[row]), scratch)
            if slot.status[row] == decode.OK:
                self._call_kernel(run, slot, row, row + 1, scratch)

    def _call_kernel(self, run: EpochInFlight, slot: Slot, low: int, high: int, scratch: Scratch) -> None:
        index = self._index
        fill(
            index.data,
            index.pointers,
            index.sizes,
            index.modes,
            index.heights,
            index.widths,
            slot.keys,
            slot.indices,
            slot.status,
            self._specs,
            slot.flat,
            slot.offsets,
            self.channels,
            self.plan.seed,
            run.epoch,
            low,
            high,
            index.decoder.address if index.decoder else 0,
            index.decoder.thread_handle() if index.decoder else 0,
            *scratch.arrays,
        )

    def _unread(self, run: EpochInFlight, slot: Slot, row: int, scratch: Scratch) -> None:
        """An unreadable sample: raise, or put another one in its place under the same random numbers."""
        sample = int(slot.keys[row])
        error = UnreadableImage(
            self.source.path,
            self.source.name_of(sample),
            decode.PROBLEMS[int(slot.status[row])],
        )
        if self.on_unreadable == "raise":
            raise error
        with run.condition:
            self.problems[sample] = Problem(error.name, error.reason)
        if self.on_unreadable == "skip":
            slot.indices[row] = -1
            return
        for attempt in range(SUBSTITUTES):
            slot.indices[row] = self.plan.substitute(run.epoch, sample, attempt)
            self._call(run, slot, row, row + 1, scratch)
            if slot.status[row] == decode.OK:
                return
        error.next = "give images that can be read"  # others stand in already, and none of them can
        raise error
