"""A copy of what a backbone computes in a step anyway: the features of the first view, without their graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class FeatureTap:
    """Copies features as they leave a backbone; nothing that is computed from the original knows of it.

    A method calls its backbone as it likes, a view at a time or several in one call. The first call with images of the
    first view's size has that view in its first rows.

    The hook stays where it is, and torch.compile does not trace it: the network is compiled as if nobody looked. Where
    a step is captured as a CUDA graph the copy is part of it, and its memory holds the features of every replay.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self._parts: list[Tensor] = []
        self._rows = self._side = 0  # of what is waited for; no rows: nothing is
        backbone.register_forward_hook(torch.compiler.disable(self._look))

    @contextmanager
    def watching(self, view: Tensor) -> Iterator[None]:
        """Copy the features of `view`, uint8 `(n, S, S, C)` and the first of its batch, from the calls made inside."""
        self._rows, self._side = len(view), view.shape[1]
        try:
            yield
        finally:
            self._rows = 0

    def take(self) -> Tensor | None:
        """The features `(N, F)` float32 that were copied since the last time, in order; None: there are none."""
        parts, self._parts = self._parts, []
        return torch.cat(parts) if len(parts) > 1 else parts[0] if parts else None

    def _look(self, backbone: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if self._rows and inputs[0].shape[-1] == self._side and output.ndim == 2:
            self._parts.append(output.detach()[: self._rows].to(torch.float32, copy=True))
            self._rows = 0
