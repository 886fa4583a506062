"""Our training step in the benchmark: the engine itself, on a loader that a stopwatch sits in."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from barlowctl.assemble import data, optimizers
from barlowctl.assemble.compiling import compile_networks
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.model import begin_method, move_to_device
from barlowctl.assemble.resolve import resolve
from barlowctl.bench.room import temporary_folder
from barlowctl.bench.step_others import LoopLARS
from barlowctl.bench.step_settings import CHECKED, StepSettings
from barlowctl.bench.stopwatch import Watch
from barlowctl.data.beton.reader import Beton
from barlowctl.data.loaders import fast
from barlowctl.train import engine
from barlowctl.train.events import Notice
from barlowctl.train.groups import parameter_groups

STEPS = 10**6
"""Of an epoch that does not end, in the warm-up of its learning rate: no weight moves far."""
AHEAD = fast.BUFFERS + 1
"""Batches that the loader may have made: its ring is full, and one is on the device."""
IMAGES = 10**6
"""Of an epoch of the loader, in which each image comes often: none ends while it is measured."""


@dataclass
class SyntheticBatch:
    """The same views each time, on the device already. See `engine.TrainingBatch`."""

    views: list[Tensor]
    labels: Tensor
    indices: Tensor

    def to(self, device: torch.device) -> list[Tensor]:
        """They are there."""
        return self.views

    def hold(self, event: Any) -> None:
        """Nothing is reused."""


class OurStep:
    """`engine.train` with the recipe's method, optimizer and settings."""

    def __init__(self, settings: StepSettings) -> None:
        self.settings, recipe = settings, settings.recipe
        method = begin_method(recipe)
        self.method = move_to_device(
            method,
            recipe,
            settings.device,
            products=settings.products,
            norms=settings.norms,
            one_pass=settings.one_pass,
        )
        images = STEPS * recipe.train.batch_size + recipe.data.holdout
        self.resolved = resolve(recipe, settings.device, torch.get_num_threads(), images)
        self.to_input = self.resolved.preprocessing.normalization().to(settings.device)
        self.optimizer = self._optimizer()

    def check(self) -> float:
        """The loss in float32 of images that all implementations have, with the weights that all begin with."""
        self.method.train()
        with torch.no_grad():
            views = [self.to_input(view) for view in self.settings.pixels(CHECKED)]
            self.method.before_step(torch.zeros((), device=self.settings.device))
            loss: float = self.method(views).loss.item()
        return loss

    def run(self, watch: Watch) -> None:
        """Train until there are no more rounds."""
        settings, recipe = self.settings, self.settings.recipe
        if recipe.train.compile:
            compile_networks(self.method)
        with ExitStack() as open_things:
            folder = open_things.enter_context(temporary_folder())
            batches = self._synthetic() if settings.loading is None else self._loaded(open_things, watch)
            engine.train(
                self.method,
                Watched(
                    batches,
                    watch,
                    ahead=0 if settings.loading is None else AHEAD,
                    rows=settings.recipe.train.batch_size,
                ),
                self.optimizer,
                self.resolved.settings(recipe.train.precision),
                to_input=self.to_input,
                device=settings.device,
                emit=lambda event: watch.note(event.text) if isinstance(event, Notice) else None,
                checkpoints=folder,
                recipe_digest="",
            )

    def _optimizer(self) -> torch.optim.Optimizer:
        recipe = self.settings.recipe
        if self.settings.optimizer == "own":
            return optimizers.optimizer_of(recipe, self.method, self.resolved.rates)
        return loop_lars(self.method, self.resolved.rates, recipe.optimizer.weight_decay)

    def _synthetic(self) -> Iterator[SyntheticBatch]:
        batch_size = self.settings.recipe.train.batch_size
        batch = SyntheticBatch(
            self.settings.pixels(batch_size), torch.full((batch_size,), -1), torch.arange(batch_size)
        )
        while True:
            yield batch

    def _loaded(self, open_things: ExitStack, watch: Watch) -> Iterator[Any]:
        settings, recipe, images = self.settings, self.settings.recipe, self.settings.loading
        assert images is not None
        source = Beton.open(images.packed)
        opened = open_things.enter_context(
            data.training_loader(
                source,
                recipe,
                Runtime(workers=images.workers),
                settings.device,
                batch_size=recipe.train.batch_size,
                drop_last=True,
                subset=np.resize(np.arange(source.num_samples), IMAGES),
            )
        )
        opened.notify = watch.note
        epoch = 0
        while True:
            yield from opened.epoch(epoch)
            epoch += 1


class Watched:
    """A loader whose one endless epoch tells the watch of every step. See `engine.TrainingLoader`."""

    def __init__(self, batches: Iterator[Any], watch: Watch, ahead: int, rows: int) -> None:
        self.batches, self.watch, self.ahead, self.rows = batches, watch, ahead, rows

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Generator[Any, None, None]:
        """Batches until there are no more rounds."""
        while True:
            yield self.watch.next_batch(self.batches, self.ahead)

    def shares(self, batch: int) -> list[int]:
        """All of a batch: nobody shares these."""
        return [self.rows]


def loop_lars(method: nn.Module, rates: Mapping[str, float], weight_decay: float) -> torch.optim.Optimizer:
    """The authors' optimizer over our groups, one parameter after another."""
    groups = parameter_groups(method, lr=rates["weights"], lr_biases=rates["biases"], weight_decay=weight_decay)
    return LoopLARS(groups, lr=rates["weights"], weight_decay=weight_decay)
