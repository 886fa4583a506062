"""Training steps on random pixels, to be timed: what a step costs here, before a run has begun or without one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from barlowctl.assemble.model import build_method, preprocessing_of
from barlowctl.methods import Method, Targets
from barlowctl.methods.momentum import MovingAverage
from barlowctl.model import (
    Preprocessing,
    prepare_attention,
    prepare_convolutions,
    prepare_linears,
    prepare_norms,
    without_data,
)
from barlowctl.recipe.schema import Recipe
from barlowctl.train.lars import LARS
from barlowctl.train.step import TrainingStep


class StepTime(NamedTuple):
    """Seconds of a step: of loss and gradient, which grow with the batch, and of the optimizer, which do not."""

    gradient: float
    update: float

    def of(self, batches: float) -> float:
        """Seconds of a step whose batch is so many times as large."""
        return self.gradient * batches + self.update


class SyntheticSteps:
    """A batch of random pixels and a network of its own, which steps change.

    Args:
        method: on the device already. batch: images of each view. sizes: the side of every view, in pixels.
        optimizer: takes the gradient of every step; None: a step ends with the gradient.
        micro_batch: images of a pass; 0: all of them.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        method: Method,
        device: torch.device,
        batch: int,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        sizes: Sequence[int],
        micro_batch: int = 0,
    ) -> None:
        self.method, self.device, self.optimizer, self.micro_batch = method, device, optimizer, micro_batch
        method.heads_alone = 0.0  # most steps train all that is trained
        self.to_input = preprocessing.normalization().to(device)
        shapes = [(batch, size, size, preprocessing.channels) for size in sizes]
        self.pixels = [torch.randint(0, 256, shape, dtype=torch.uint8, device=device) for shape in shapes]
        self.targets = Targets.unlabelled(batch, device, label=0)
        self.steps: dict[str, TrainingStep] = {}  # by precision

    def take(self, precision: str) -> StepTime:
        """Take one step in that precision."""
        return timed(self._step(precision), self.pixels, self.targets)

    def cpu_seconds(self, precision: str) -> float:
        """Take one step in that precision; the CPU time it took."""
        self._step(precision)
        start = time.process_time()
        self.take(precision)
        return time.process_time() - start

    def _step(self, precision: str) -> TrainingStep:
        """The step of a precision. What is compiled once and for ever is compiled here, and is no part of it."""
        if precision not in self.steps:
            prepare_norms(self.method, torch.bfloat16 if precision == "bf16" else torch.float32)
            prepare_linears(self.method, precision)
            prepare_attention(self.method, precision)
            for view in self.pixels:
                prepare_convolutions(self.method.backbone, self.to_input(view[:1]), precision)
            if isinstance(self.optimizer, LARS):
                self.optimizer.prepare()
            self.steps[precision] = TrainingStep(
                self.method,
                self.optimizer,
                to_input=self.to_input,
                device=self.device,
                precision=precision,
                micro_batch=self.micro_batch,
            )
        return self.steps[precision]


def timed(step: TrainingStep, inputs: Any, targets: Targets) -> StepTime:
    """Take a step; the seconds until its device is done with each part of it."""
    start = time.perf_counter()
    computed = step.compute(inputs, targets)
    _wait(step.device)
    between = time.perf_counter()
    if step.optimizer is not None:
        step.update(computed)
    computed.terms = None  # and with it the graph
    _wait(step.device)
    return StepTime(between - start, time.perf_counter() - between)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def batch_of_pixels(recipe: Recipe, pixels: int) -> int:
    """The recipe's batch, or as much of it as has at most twice as many `pixels` in all its views together."""
    return max(2, min(recipe.train.batch_size, 2 * pixels // sum(size**2 for size in recipe.sizes)))


def operations(recipe: Recipe) -> float:
    """Multiply-adds of all views' forward pass and of the loss at the recipe's batch, counted without computing."""
    n = recipe.train.batch_size
    flops, d, _ = _forward(recipe)
    return float(flops / 2 * n + min(n * d * d, 2 * n * n * d))


def forward_flops(recipe: Recipe) -> float:
    """Floating-point operations (two a multiply-add) from all views of one image to what the method compares."""
    return _forward(recipe)[0]


def training_flops(recipe: Recipe) -> float:
    """Floating-point operations of an image's training step: forward, and twice as much backward.

    Networks that follow others, such as a momentum encoder, have no backward pass.
    """
    return 3 * forward_flops(recipe) - 2 * _forward(recipe)[2]


def _forward(recipe: Recipe) -> tuple[float, int, float]:
    """`forward_flops`, the width of what is compared, and the share of networks that follow others."""
    with without_data():
        method = build_method(recipe).requires_grad_(False)  # or the counter looks for gradients, of PiT's in vain
        channels = preprocessing_of(recipe).channels
        views = [torch.empty((2, channels, size, size)) for size in recipe.sizes]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        embedded = method.embeddings(method.arrange(views, Targets.unlabelled(2, "meta")))
    following = sum(counter.get_flop_counts().get(MovingAverage.__name__, {}).values())
    return float(counter.get_total_flops() / 2), embedded[0].shape[1], float(following / 2)
