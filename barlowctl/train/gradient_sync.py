"""Gradients summed over ranks while the backward pass goes on, in the scale that `distributed` states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from barlowctl.distributed import Ranks

GradientScale = Literal["exact", "reference"]
BUCKET_BYTES = 25 << 20


class GradientSync:
    """Sums the gradients of parameters over ranks while the backward pass is still going on.

    Parameters are taken in buckets, last ones first, and a bucket is sent when all its gradients are there.
    Buckets go out in one fixed order, so every rank sends the same ones at the same place. A parameter
    without a gradient (on every rank, since all run the same graph) stays without. `finish` waits and writes
    the sums back. With the first bucket goes one number more: how many ranks ask to end the run (`ending`).

    Args:
        parameters: those that are trained, in the same order on every rank.
        scale: "exact", the gradient of the global batch's loss; "reference", 1/W of it.

    Attributes:
        ends: this rank asks to end the run; set it before `start`.
        ending: more than 0 after `finish` where any rank asked, on the device; None: this process is alone.
    """

    ends: bool = False
    ending: Tensor | None = None

    def __init__(self, ranks: Ranks, parameters: Sequence[Tensor], scale: GradientScale = "exact") -> None:
        self.ranks = ranks
        self.factor = 1.0 if scale == "exact" else 1.0 / ranks.size
        self.active = False
        self._buckets = _buckets(parameters) if ranks.size > 1 else []
        self._where = {p: number for number, bucket in enumerate(self._buckets) for p in bucket}
        self._missing: list[int] = []
        self._sent: list[tuple[Tensor, Any]] = []
        for parameter in self._where:
            parameter.register_post_accumulate_grad_hook(self._arrived)

    def start(self) -> None:
        """The next backward pass is the last one of this step: send what it completes."""
        self.active = True
        self._missing = [len(bucket) for bucket in self._buckets]
        self._sent = []

    def finish(self) -> None:
        """Wait for the sums; every parameter's `grad` is then the global one."""
        self.active = False
        self._send(len(self._buckets))
        for number, (bucket, (flat, work)) in enumerate(zip(self._buckets, self._sent, strict=True)):
            with self.ranks.collective():
                work.wait()
            if self.factor != 1.0:
                flat.mul_(self.factor)
            if number == 0:
                flat, self.ending = flat[:-1], flat[-1]
            parts = zip(bucket, flat.split([p.numel() for p in bucket]), strict=True)
            summed = [(p.grad, part.view_as(p)) for p, part in parts if p.grad is not None]
            if summed:
                torch._foreach_copy_([grad for grad, _ in summed], [part for _, part in summed])
        self._sent = []

    def _arrived(self, parameter: Tensor) -> None:
        if self.active:
            self._missing[self._where[parameter]] -= 1
            ready = len(self._sent)
            while ready < len(self._missing) and self._missing[ready] == 0:
                ready += 1
            self._send(ready)

    def _send(self, until: int) -> None:
        for bucket in self._buckets[len(self._sent) : until]:
            parts = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in bucket]
            if not self._sent:
                parts.append(parts[0].new_full((1,), float(self.ends)))
            flat = torch.cat(parts)
            with self.ranks.collective():
                self._sent.append((flat, dist.all_reduce(flat, async_op=True)))


def _buckets(parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    """Parameters of one dtype and device, last ones first, cut where a bucket has its size."""
    buckets: list[list[Tensor]] = []
    size = 0
    for p in reversed(list(parameters)):
        fits = buckets and buckets[-1][0].dtype == p.dtype and buckets[-1][0].device == p.device
        if not fits or size >= BUCKET_BYTES:
            buckets.append([])
            size = 0
        buckets[-1].append(p)
        size += p.numel() * p.element_size()
    return buckets
