"""The loss and the gradient of one step: in one pass over the batch, or over micro-batches.

A loss that is a mean over rows adds up (`Trainable.parts`): micro-batches leave their gradients one after another.

Any other needs two passes, for all embeddings of the batch but not all activations. The first pass embeds the batch
piece by piece without a graph; the loss and dL/dz are computed once, over all embeddings; the second pass embeds each
piece again with a graph and sends its rows of dL/dz back through it. Twice the forward work, and the activations of a
micro-batch only.

The gradient is the full batch's, except for batch norm inside the networks, which sees a micro-batch at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor

from barlowctl.distributed import Ranks
from barlowctl.methods import Method, Targets, Terms, Trainable
from barlowctl.train.computed import each, weighted_sum
from barlowctl.train.feature_tap import FeatureTap
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
        method: its whole forward pass in one; two passes use the `embeddings` and `compare` of a `Method`.
        to_input: of a method that takes views, uint8 `(n, S, S, C)` -> network input `(n, C, S, S)`; applied to a
            micro-batch at a time. None: what is trained takes a batch as it is.
        micro_batch: images per pass on each rank; 0: all of them, in one pass.
        tap: is shown the features of the first view, once a step.
        recomputes: activations are computed again in the backward pass, where batch norm would count the
            batch a second time in its running statistics.
        summed: parameters whose gradients are to be summed over ranks here; None: all that are trained.
    """

    def __init__(
        self,
        method: Trainable,
        *,
        to_input: Callable[[Tensor], Tensor] | None,
        device: torch.device,
        precision: str,
        scaler: torch.amp.GradScaler,
        ranks: Ranks,
        scale: GradientScale = "exact",
        micro_batch: int = 0,
        recomputes: bool = False,
        tap: FeatureTap | None = None,
        summed: Sequence[Tensor] | None = None,
    ) -> None:
        self.method, self.to_input, self.tap = method, to_input, tap
        self.device, self.precision, self.scaler = device, precision, scaler
        self.micro_batch, self.recomputes = micro_batch, recomputes
        trained = [p for p in method.parameters() if p.requires_grad]
        self.sync = GradientSync(ranks, trained if summed is None else summed, scale)

    def __call__(self, inputs: Any, targets: Targets) -> Terms:
        """Loss and terms of a batch.

        Args:
            inputs: this rank's rows: views, uint8 `(n, S, S, C)` each, or whatever else is trained on.
            targets: what belongs to them.
        """
        rows = max(targets.shares or (len(targets.indices),))
        pieces = math.ceil(rows / self.micro_batch) if self.micro_batch else 1
        if pieces == 1:
            return self._one_pass(inputs, targets)
        parts = self.method.parts(inputs, pieces)
        return self._two_passes(inputs, targets, pieces) if parts is None else self._added_up(parts, targets)

    def _prepared(self, inputs: Any) -> Any:
        """What the method takes."""
        return inputs if self.to_input is None else [self.to_input(view) for view in inputs]

    def _watching(self, views: Sequence[Tensor]) -> AbstractContextManager[None]:
        return nullcontext() if self.tap is None else self.tap.watching(views[0])

    def _one_pass(self, inputs: Any, targets: Targets) -> Terms:
        with self._watching(inputs), autocast(self.device, self.precision):
            terms: Terms = self.method(self._prepared(inputs), targets)
        self.sync.start()
        with self._backward():
            self.scaler.scale(terms.loss).backward()
        self.sync.finish()
        return terms

    def _added_up(self, parts: Sequence[Any], targets: Targets) -> Terms:
        """The parts one after another: means over their rows, so that their shares of the rows are their weights."""
        targets_of = targets.parts(len(parts))
        rows_of = [sum(of_part.shares or (len(of_part.indices),)) for of_part in targets_of]
        weights = [rows / sum(rows_of) for rows in rows_of]
        terms_of = []
        for number, part in enumerate(parts):
            with self._watching(part), autocast(self.device, self.precision):
                terms: Terms = self.method(self._prepared(part), targets_of[number])
            if number == len(parts) - 1:
                self.sync.start()
            with self._backward():
                self.scaler.scale(terms.loss * weights[number]).backward()
            terms_of.append(each(terms, Tensor.detach))
        self.sync.finish()
        return weighted_sum(terms_of, weights)

    def _embed(self, views: Sequence[Tensor]) -> list[Tensor]:
        with autocast(self.device, self.precision):
            return self._two_pass_method.embeddings(self._prepared(views))

    @property
    def _two_pass_method(self) -> Method:
        """What is trained, where its loss compares embeddings: then it is a `Method` (see `Trainable.parts`)."""
        return cast(Method, self.method)

    def _two_passes(self, views: Sequence[Tensor], targets: Targets, pieces: int) -> Terms:
        arranged = self._two_pass_method.arrange(views, targets)
        parts = list(zip(*(view.tensor_split(pieces) for view in arranged), strict=True))
        random = random_state(self.device)
        with torch.no_grad(), buffers_kept(self.method):
            embedded = [self._first_pass(part) for part in parts]
        whole = [torch.cat(rows).requires_grad_() for rows in zip(*embedded, strict=True)]
        with autocast(self.device, self.precision):
            terms = self._two_pass_method.compared(whole, targets)
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

    def _first_pass(self, part: Sequence[Tensor]) -> list[Tensor]:
        with self._watching(part):
            return self._embed(part)

    def _backward(self) -> AbstractContextManager[None]:
        return buffers_kept(self.method) if self.recomputes else nullcontext()


@contextmanager
def buffers_kept(method: Trainable) -> Iterator[None]:
    """Put every buffer (running statistics) back as it was, except those that no forward pass changes."""
    buffers = method.copied_buffers()
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
