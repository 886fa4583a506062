"""The loss and the gradient of one step: in one pass over the batch, or in two over micro-batches.

Two passes (`micro_batch`): the loss needs all embeddings of the batch but not all activations. The first pass
embeds the batch piece by piece without a graph; the loss and dL/dz are computed once, over all embeddings;
the second pass embeds each piece again with a graph and sends its rows of dL/dz back through it. The
gradient is the full batch's, except for batch norm inside the networks, which sees a micro-batch at a time
in both passes. Twice the forward work, and the activations of a micro-batch only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from barlowctl.distributed import Ranks
from barlowctl.methods import Method, Targets, Terms
from barlowctl.train.gradient_sync import GradientScale, GradientSync
from barlowctl.train.random_state import random_state, restore_random_state

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The precision of a forward pass: fp32, bf16 or fp16."""
    dtype = AUTOCAST[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


class Gradient:
    """Computes a step's loss, and leaves the gradient of the global batch in `grad` of every parameter.

    Args:
        method: its whole forward pass in one; two passes use its `embeddings` and `compare`.
        to_input: uint8 views `(n, S, S, C)` -> network input `(n, C, S, S)`; applied to a micro-batch at a time.
        micro_batch: images per pass on each rank; 0: all of them, in one pass.
        recomputes: activations are computed again in the backward pass, where batch norm would count the
            batch a second time in its running statistics.
    """

    def __init__(
        self,
        method: Method,
        *,
        to_input: Callable[[Tensor], Tensor],
        device: torch.device,
        precision: str,
        scaler: torch.amp.GradScaler,
        ranks: Ranks,
        scale: GradientScale = "exact",
        micro_batch: int = 0,
        recomputes: bool = False,
    ) -> None:
        self.method, self.to_input = method, to_input
        self.device, self.precision, self.scaler = device, precision, scaler
        self.micro_batch, self.recomputes = micro_batch, recomputes
        self.sync = GradientSync(ranks, [p for p in method.parameters() if p.requires_grad], scale)

    def __call__(self, views: Sequence[Tensor], targets: Targets) -> Terms:
        """Loss and terms of a batch.

        Args:
            views: this rank's rows, uint8 `(n, S, S, C)`. targets: what belongs to them.
        """
        rows = max(targets.shares or (len(views[0]),))
        pieces = math.ceil(rows / self.micro_batch) if self.micro_batch else 1
        return self._two_passes(views, targets, pieces) if pieces > 1 else self._one_pass(views, targets)

    def _embed(self, views: Sequence[Tensor]) -> list[Tensor]:
        with autocast(self.device, self.precision):
            return self.method.embeddings([self.to_input(view) for view in views])

    def _one_pass(self, views: Sequence[Tensor], targets: Targets) -> Terms:
        with autocast(self.device, self.precision):
            terms: Terms = self.method([self.to_input(view) for view in views], targets)
        self.sync.start()
        with self._backward():
            self.scaler.scale(terms.loss).backward()
        self.sync.finish()
        return terms

    def _two_passes(self, views: Sequence[Tensor], targets: Targets, pieces: int) -> Terms:
        arranged = self.method.arrange(views, targets)
        parts = list(zip(*(view.tensor_split(pieces) for view in arranged), strict=True))
        random = random_state(self.device)
        with torch.no_grad(), _buffers_kept(self.method):
            embedded = [self._embed(part) for part in parts]
        whole = [torch.cat(rows).requires_grad_() for rows in zip(*embedded, strict=True)]
        with autocast(self.device, self.precision):
            terms = self.method.compare(whole, targets)
        self.scaler.scale(terms.loss).backward()
        del embedded
        rows_of = [z.grad.tensor_split(pieces) if z.grad is not None else [None] * pieces for z in whole]
        restore_random_state(random)  # dropout drops the same again
        for number, part in enumerate(parts):
            if number == pieces - 1:
                self.sync.start()
            again = zip(self._embed(part), (rows[number] for rows in rows_of), strict=True)
            carried = [(z, rows) for z, rows in again if z.requires_grad and rows is not None]
            with self._backward():
                torch.autograd.backward([z for z, _ in carried], [rows for _, rows in carried])
        self.sync.finish()
        return terms

    def _backward(self) -> AbstractContextManager[None]:
        return _buffers_kept(self.method) if self.recomputes else nullcontext()


@contextmanager
def _buffers_kept(method: nn.Module) -> Iterator[None]:
    """Put every buffer (running statistics) back as it was."""
    buffers = list(method.buffers())
    before = [buffer.clone() for buffer in buffers]
    yield
    with torch.no_grad():
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
