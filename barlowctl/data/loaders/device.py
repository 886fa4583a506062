"""A loader's crops with the photometric chain on a device: what a GPU machine trains from.

The CPU decodes, crops and resizes; one copy per batch brings the crops over, and the chain (`batched`) runs there on
a stream of its own, a batch ahead of the step. What comes out is what the CPU's loader gives: uint8 views, the same
draws.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from barlowctl.data.loaders.base import ViewLoader
from barlowctl.data.loaders.batch import ViewBatch
from barlowctl.data.loaders.fast import FastLoader
from barlowctl.data.views import batched
from barlowctl.data.views.parameters import Parameters, draw_parameters
from barlowctl.data.views.spec import Spec, ViewSpec

AT_ONCE = 128  # images that go through the chain together
TRIALS = 5  # of the chain, compiled and not, when one of the two is chosen


@dataclass
class _Sent:
    """A batch on its way: its views are there once `ready` (a CUDA event) is reached."""

    views: tuple[Tensor, ...]
    batch: ViewBatch
    ready: Any = None


class DeviceLoader(ViewLoader):
    """Batches on `device`: uint8 views (N, S, S, C) as `FastLoader` makes them, labels and indices on the host.

    Its batches are copies: they stay valid, and `ViewBatch.hold` has nothing to do. On a CUDA device the copy and the
    chain run on a stream of their own while the caller works on the batch before; the caller's current stream waits for
    them. A slot of the CPU's ring is written again only after its copy has completed.

    Args:
        loader: makes the geometric part (`batched.geometric` of each spec), into pinned buffers for a CUDA device.
        specs: the views in full. Rounding the crops to whole levels first is the only difference to the CPU's chain.
        compiles: whether the first batch also goes through a compiled chain, which stays if it was faster there;
            `notify` is told what was found.
    """

    def __init__(
        self, loader: FastLoader, specs: Sequence[Spec], device: torch.device, *, compiles: bool = False
    ) -> None:
        super().__init__(loader.plan)
        self._operations = batched.Operations()
        self._undecided = compiles
        self.name, self.problems = loader.name, loader.problems
        self.loader, self.specs, self.device = loader, tuple(specs), device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Generator[ViewBatch, None, None]:
        """See `ViewLoader.epoch`."""
        return self._epoch(epoch, self.loader.epoch(epoch, start_batch=start_batch))

    def _epoch(self, epoch: int, batches: Generator[ViewBatch, None, None]) -> Generator[ViewBatch, None, None]:
        before: _Sent | None = None
        try:
            for batch in batches:
                sent = self._send(epoch, batch)  # queued before the batch before it is given away
                if before is not None:
                    yield self._receive(before)
                before = sent
            if before is not None:
                yield self._receive(before)
        finally:
            batches.close()

    def close(self) -> None:
        """End the CPU's threads and drop its buffers."""
        self.loader.close()

    def _send(self, epoch: int, batch: ViewBatch) -> _Sent:
        if self._stream is None:
            return _Sent(self._distort(epoch, batch, [view.to(self.device, copy=True) for view in batch.views]), batch)
        with torch.cuda.stream(self._stream):
            views = batch.to(self.device)
            copied = torch.cuda.Event()
            copied.record(self._stream)
            batch.hold(copied)
            made = self._distort(epoch, batch, views)
            ready = torch.cuda.Event()
            ready.record(self._stream)
        return _Sent(made, batch, ready)

    def _receive(self, sent: _Sent) -> ViewBatch:
        if sent.ready is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(sent.ready)
            for view in sent.views:
                view.record_stream(current)  # allocated on the other stream: not to be reused while this one reads it
        return ViewBatch(views=sent.views, labels=sent.batch.labels, indices=sent.batch.indices, keys=sent.batch.keys)

    def _distort(self, epoch: int, batch: ViewBatch, views: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The chain on uint8 views (N, S, S, C), which it leaves alone."""
        parameters = [
            draw_parameters(spec, self.plan.seed, epoch, batch.keys.numpy(), number)
            if isinstance(spec, ViewSpec) and len(batch.keys)
            else None
            for number, spec in enumerate(self.specs)
        ]
        if self._undecided and len(batch.keys):
            self._undecided = False
            self._operations, note = self._faster(views, parameters)
            self.notify(note)
        try:
            return _apply(views, parameters, self._operations)
        except Exception as error:
            if self._operations == batched.Operations():
                raise
            self._operations = batched.Operations()  # a shape that the compiler met for the first time, say
            self.notify(f"the distortions run uncompiled from here: {_first_line(error)}")
            return _apply(views, parameters, self._operations)

    def _faster(
        self, views: Sequence[Tensor], parameters: Sequence[Parameters | None]
    ) -> tuple[batched.Operations, str]:
        """The chain as it is or compiled, whichever makes these views sooner, and what was found."""
        plain, other = batched.Operations(), batched.compiled()
        before = self._seconds(views, parameters, plain)
        try:
            after = self._seconds(views, parameters, other)
        except Exception as error:  # a compiler's, of any kind: the run does without
            return plain, f"the distortions run uncompiled: {_first_line(error)}"
        ratio = f"{before / after:.2f} times as fast as uncompiled (at {len(views[0])} images)"
        if after < before:
            return other, f"the distortions run compiled, {ratio}"
        return plain, f"the distortions run uncompiled: compiled they were {ratio}"

    def _seconds(
        self,
        views: Sequence[Tensor],
        parameters: Sequence[Parameters | None],
        operations: batched.Operations,
    ) -> float:
        """The least of some runs, after one of warm-up."""
        times = []
        for _ in range(1 + TRIALS):
            start = time.perf_counter()
            _apply(views, parameters, operations)
            if self._stream is not None:
                self._stream.synchronize()
            times.append(time.perf_counter() - start)
        return min(times[1:])


def _apply(
    views: Sequence[Tensor], parameters: Sequence[Parameters | None], operations: batched.Operations
) -> tuple[Tensor, ...]:
    """The chain on uint8 views (N, S, S, C), some images at a time: in float32 a large batch would take gigabytes."""
    made = []
    for pixels, drawn in zip(views, parameters, strict=True):
        if drawn is None:
            made.append(pixels)
            continue
        done = torch.empty_like(pixels, memory_format=torch.contiguous_format)
        for low in range(0, len(pixels), AT_ONCE):
            part = pixels[low : low + AT_ONCE]
            planes = part.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
            planes = batched.distort(planes, drawn.part(low, low + len(part)), operations).add_(0.5)
            done[low : low + len(part)] = planes.to(torch.uint8).permute(0, 2, 3, 1)
        made.append(done)
    return tuple(made)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
