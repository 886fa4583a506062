"""A loader's crops with the photometric chain on a device: what a GPU machine trains from.

The CPU decodes, crops and resizes; one copy per batch brings the crops over, and the chain (`batched`) runs there on
a stream of its own, a batch ahead of the step. What comes out is what the CPU's loader gives: uint8 views, the same
draws.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from barlowctl.data.loaders.base import ViewLoader
from barlowctl.data.loaders.batch import ViewBatch
from barlowctl.data.loaders.chain import Chain
from barlowctl.data.loaders.fast import FastLoader
from barlowctl.data.views.parameters import draw_parameters
from barlowctl.data.views.spec import Spec, ViewSpec


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
        fuses: whether the first batch also goes through Triton's kernels, on a CUDA device that has a view for them;
            compiles: through a compiled chain. See `Chain`.
    """

    def __init__(
        self,
        loader: FastLoader,
        specs: Sequence[Spec],
        device: torch.device,
        *,
        compiles: bool = False,
        fuses: bool = True,
    ) -> None:
        super().__init__(loader.plan)
        fuses = fuses and device.type == "cuda" and any(isinstance(s, ViewSpec) and s.photometric == 0.0 for s in specs)
        self._chain = Chain(
            fuses=fuses,
            compiles=compiles,
            wait=self._wait,
            notify=lambda text: self.notify(text),
        )
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
        return self._chain(views, parameters)

    def _wait(self) -> None:
        if self._stream is not None:
            self._stream.synchronize()
