"""A training step on views as one CUDA graph: captured once, then replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from barlowctl.methods import Targets, Terms, Trainable
from barlowctl.train.computed import Before, Computed, each


class Captured:
    """Both halves of a step on batches of one shape, as one CUDA graph.

    Args:
        take: takes a step as it is computed without a graph.
        views, targets: a batch of the shapes that are captured.

    Raises:
        RuntimeError: something of the method changes on the host, and every replay would have it as it is now.
    """

    def __init__(
        self, method: Trainable, take: Callable[[Computed], None], views: Sequence[Tensor], targets: Targets
    ) -> None:
        doubts = getattr(method, "doubts", None)
        if doubts is not None and (what := doubts.moves_on_host):
            raise RuntimeError(f"{what} changes from step to step on the host, and a graph would keep it as it is")
        self.views = [view.clone() for view in views]
        self.targets = Targets(targets.labels.clone(), targets.indices.clone(), targets.shares, targets.progress)
        self.parameters = [p for p in method.parameters() if p.requires_grad]
        method.zero_grad(set_to_none=True)  # the graph makes its own
        self.graph = torch.cuda.CUDAGraph()
        # torch keeps the stream of a process's first capture: on another GPU a step would be taken, and none captured.
        stream = torch.cuda.Stream(views[0].device)
        computed = Computed(self.views, self.targets, Before([], {}))
        mode = "thread_local"  # the loader's threads go on
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode=mode):
            take(computed)
        assert computed.terms is not None
        self.terms, self.norms, self.features = computed.terms, computed.norms, computed.features
        self.moved = computed.moved
        self.gradients = [p.grad for p in self.parameters]

    def fits(self, views: Sequence[Tensor]) -> bool:
        """Whether a batch has the shapes that were captured."""
        return all(view.shape == own.shape for view, own in zip(views, self.views, strict=True))

    def replay(self, views: Sequence[Tensor], targets: Targets, *, with_terms: bool) -> Terms:
        """The step on a batch; the terms of one that is not logged are those of the newest replay."""
        for own, view in zip(self.views, views, strict=True):
            own.copy_(view, non_blocking=True)
        self.targets.labels.copy_(targets.labels)
        self.targets.indices.copy_(targets.indices)
        self.graph.replay()
        for p, gradient in zip(self.parameters, self.gradients, strict=True):
            p.grad = gradient
        return each(self.terms, Tensor.clone) if with_terms else self.terms


def leave_capture(device: torch.device) -> None:
    """Give a device's generator what a capture that failed has left it without: a state outside of any graph."""
    index = torch.cuda.current_device() if device.index is None else device.index
    fresh = torch.Generator(device)
    fresh.set_state(torch.cuda.get_rng_state(index))
    torch.cuda.default_generators[index].graphsafe_set_state(fresh.graphsafe_get_state())


def why_not_captured(error: Exception) -> str:
    """Why a capture failed, in a line."""
    if isinstance(error, torch.OutOfMemoryError):
        return "the GPU has no memory left for one"
    return str(error).strip().partition("\n")[0] or type(error).__name__
