"""Training steps on random pixels, to be timed: what a step costs here, before a run has begun or without one."""

from __future__ import annotations

import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from barlowctl.assemble.model import build_method, preprocessing_of
from barlowctl.model import Preprocessing
from barlowctl.recipe.schema import Recipe
from barlowctl.train import gradient


class Trial:
    """A batch of random pixels and a network of its own, which steps change.

    Args:
        method: on the device already. batch: images of each view. size: side of a view.
        optimizer: takes the gradient of every step; None: a step ends with the gradient.
    """

    def __init__(
        self,
        shown: Preprocessing,
        method: nn.Module,
        device: torch.device,
        batch: int,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        size: int,
        views: int = 2,
    ) -> None:
        self.method, self.device, self.optimizer, self.batch = method, device, optimizer, batch
        self.to_input = shown.normalization().to(device)
        shape = (batch, size, size, shown.channels)
        self.pixels = [torch.randint(0, 256, shape, dtype=torch.uint8, device=device) for _ in range(views)]

    def step(self, precision: str) -> float:
        """Take one step in that precision; the seconds it took."""
        start = time.perf_counter()
        with gradient.autocast(self.device, precision):
            terms = self.method([self.to_input(view) for view in self.pixels])
        self.method.zero_grad(set_to_none=True)
        terms.loss.backward()
        if self.optimizer is not None:
            self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start

    def cpu_seconds(self, precision: str) -> float:
        """Take one step in that precision; the CPU time it took."""
        start = time.process_time()
        self.step(precision)
        return time.process_time() - start


def operations(recipe: Recipe) -> float:
    """Multiply-adds of both views' forward pass and of the loss at the recipe's batch, counted without computing."""
    n, d = recipe.train.batch_size, recipe.model.projector[-1]
    return float(forward_flops(recipe) * n + min(n * d * d, 2 * n * n * d))


def forward_flops(recipe: Recipe) -> float:
    """Floating-point operations (two a multiply-add) of one view of one image through backbone and projector."""
    with torch.device("meta"):
        method = build_method(recipe)
        images = torch.empty((2, preprocessing_of(recipe).channels, recipe.views.size, recipe.views.size))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        method.projector(method.backbone(images))
    return float(counter.get_total_flops() / 2)
