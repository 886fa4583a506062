"""A run put together from a recipe, and started."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from barlowctl.assemble import first_lines, own_network, run_images
from barlowctl.assemble.compiling import arrange_compiling, compiling_timed
from barlowctl.assemble.data import (
    ImageSet,
    choose_loader,
    count_classes,
    open_recipe_images,
    training_loader,
)
from barlowctl.assemble.evaluation import OnlineEvaluation
from barlowctl.assemble.holdout import count, held_out
from barlowctl.assemble.machine import Runtime, check_compiler, device_of_rank, set_threads
from barlowctl.assemble.methods import Context
from barlowctl.assemble.model import begin_method, check_image_size, move_to_device
from barlowctl.assemble.optimizers import note_own, optimizer_of
from barlowctl.assemble.precision import Precision, of_run
from barlowctl.assemble.resolve import Resolved, resolve
from barlowctl.assemble.run_recipe import recipe_of
from barlowctl.assemble.same_on_ranks import check_images, check_recipe
from barlowctl.assemble.start import Start, begin
from barlowctl.data.loaders.base import ViewLoader
from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError
from barlowctl.generators import own_generator
from barlowctl.methods import Method
from barlowctl.model import InputNormalization, synchronize_batch_norm
from barlowctl.recipe.saving import saving_as
from barlowctl.recipe.schema import Recipe
from barlowctl.train import checkpoint, engine
from barlowctl.train.events import Notice, Sink, broadcast
from barlowctl.train.monitors import guarded
from barlowctl.train.online_probe import OnlineProbe


@dataclass
class Job:
    """A run put together, not yet started. What is costly is made when first asked for."""

    recipe: Recipe
    runtime: Runtime
    data: str | None  # instead of the recipe's dataset
    source: ImageSet
    resolved: Resolved
    ranks: Ranks = ALONE
    earlier_precision: Precision | None = None  # what the run began in, where it is resumed
    start: Start | None = None  # weights that the first step finds; None: random ones, or a checkpoint's
    notes: Sequence[str] = ()  # that nobody has read, on the images and the network: they are said as it begins

    @property
    def device(self) -> torch.device:
        """This rank's."""
        return self.resolved.device

    @cached_property
    def precision(self) -> Precision:
        """What is computed in: rank 0's choice on every rank."""
        if self.ranks.size > 1:
            _ = self.method  # one that cannot be built is refused by every rank, not by rank 0 while the others wait
        chosen = None
        if self.ranks.first:
            chosen = of_run(self.recipe, self.device, ranks=self.ranks.size, earlier=self.earlier_precision)
        return self.ranks.from_first(chosen)

    @cached_property
    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the images trained on, and of those held out."""
        return held_out(self.source, self.recipe)

    @cached_property
    def settings(self) -> engine.Settings:
        return self.resolved.settings(self.precision.used)

    @cached_property
    def loader(self) -> ViewLoader:
        return training_loader(
            self.source,
            self.recipe,
            self.runtime,
            self.device,
            batch_size=self.recipe.train.batch_size,
            drop_last=self.recipe.data.drop_last,
            subset=self.split[0],
            choice=self.resolved.loader,
            rank=self.ranks.rank,
            world_size=self.ranks.size,
        )

    @property
    def context(self) -> Context:
        """What the method has from outside of the recipe."""
        trained_on, images = self.split[0], self.source.num_samples
        some = None if len(trained_on) == images else trained_on
        return Context(self.ranks, images, count_classes(self.source), some)

    @cached_property
    def method(self) -> Method:
        method = begin_method(self.recipe, self.context)
        if self.start is not None:
            self.start.fill(method)
        train = self.recipe.train
        if train.sync_batch_norm and self.ranks.size > 1:
            over = self.ranks.neighbours(train.sync_batch_norm_ranks)
            synchronize_batch_norm(method, over, self.device, frozen=method.frozen_modules)
        of_optimizer = note_own(self.recipe, method, self.resolved)
        self.notes = (*self.notes, *own_network.note_untrained(self.recipe, method), *of_optimizer)
        return move_to_device(method, self.recipe, self.device)

    @cached_property
    def whole(self) -> Method:
        """A method of this process alone on the host, to be given the weights of one that is divided among ranks."""
        with own_generator(self.recipe.seed, self.device):
            method = begin_method(self.recipe, replace(self.context, ranks=ALONE))
        return move_to_device(method, self.recipe, self.device).cpu()

    @cached_property
    def to_input(self) -> InputNormalization:
        return self.resolved.preprocessing.normalization().to(self.device)

    @property
    def dataset(self) -> str:
        """Which images were asked for."""
        return self.recipe.data.dataset if self.data is None else self.data

    def first_lines(self) -> dict[str, str]:
        """The run's first lines: what was resolved, and why."""
        images = first_lines.describe_images(self.source, self.resolved)
        method = self.method
        started = self.start.lines() if self.start else first_lines.describe_start(self.recipe)
        return first_lines.first_lines(self.resolved, self.runtime, method, self.precision, images, started)


def prepare(
    recipe: Recipe,
    runtime: Runtime,
    data: str | None = None,
    ranks: Ranks = ALONE,
    *,
    resume: Path | None = None,
) -> Job:
    """Find the images and the device of a run (of this rank's part of it), and check that it can be.

    Args:
        resume: the run that goes on. The weights that it started from are read again only if it has no checkpoint.

    Raises:
        UserError: no such images, weights or device, or sizes that do not fit together.
    """
    recipe, start = started(recipe, ranks, resume)
    check_recipe(recipe, ranks)
    device = device_of_rank(runtime.device, ranks)
    if recipe.train.compile:
        check_compiler(device)
    threads = set_threads(runtime, recipe.train.cpu_threads, ranks)
    source = open_recipe_images(recipe, "train", data)
    check_images(source, ranks)
    loader = choose_loader(source, runtime.loader)
    usable, held = count(source, source.num_samples, recipe)
    resolved = resolve(recipe, device, threads, usable, loader, ranks=ranks.size, held=held)
    return Job(recipe, runtime, data, source, resolved, ranks, start=start)


def started(recipe: Recipe, ranks: Ranks = ALONE, resume: Path | None = None) -> tuple[Recipe, Start | None]:
    """The recipe and the weights of a run that starts, or that goes on (see `begin` and `prepare`)."""
    if resume is None:
        recipe, start = begin(recipe, ranks)
        check_image_size(recipe)
        return recipe, start
    if not recipe.init.weights:
        return recipe, None
    begun = saving_as(recipe_of(resume), recipe)
    if checkpoint.list_checkpoints(resume / "checkpoints"):
        return begun, None
    try:
        return begin(begun, ranks)
    except UserError as error:
        error.message = (
            f"'{resume}' has no checkpoint to go on from, and the weights that it started from are not there: "
            f"{error.message}"
        )
        error.allowed = "the same weights where they were, or a new run: --recipe and its recipe.toml, --init and them"
        raise


def pretrain(
    job: Job,
    run: Path,
    emit: Sink,
    *,
    digest: str,
    stop: Callable[[], bool] = lambda: False,
    resume: bool = False,
    evaluated: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Train a job in its run directory; returns the values of its result. See `engine.train`."""
    recipe, method = job.recipe, job.method
    optimizer = optimizer_of(recipe, method, job.resolved.rates)
    if job.ranks.rank:
        torch.manual_seed(recipe.seed + (job.ranks.rank << 32))  # weights are drawn; dropout differs between ranks
    arrange_compiling(method, job.device, compiles=recipe.train.compile)

    def tell(text: str) -> None:
        emit(Notice(text))

    evaluation, everywhere, probe = None, emit, None
    whole = job.whole if job.resolved.shards and job.ranks.first else None
    if job.ranks.first:
        evaluation = OnlineEvaluation(
            whole or method, job.source, job.split, recipe, job.runtime, job.device, job.data, notify=tell
        )
        if recipe.eval.linear and evaluation.queries is not None:
            probe = evaluation.probe = OnlineProbe(count_classes(job.source), recipe.eval.linear_lr)
        spectra = guarded(evaluation.record(run), f"the folder '{run / 'diagnostics'}'", tell)
        everywhere = broadcast(emit, spectra)
        queries = None if evaluation.queries is job.source else evaluation.queries
        if note := run_images.note_queries(run, queries):
            tell(note)
    with job.loader as loader, compiling_timed(everywhere, compiles=recipe.train.compile) as everywhere:
        loader.notify = tell
        result: dict[str, Any] = engine.train(
            method,
            loader,
            optimizer,
            job.settings,
            to_input=job.to_input,
            device=job.device,
            emit=everywhere,
            checkpoints=run / "checkpoints",
            recipe_digest=digest,
            evaluate=evaluation,
            evaluated=evaluated,
            evaluated_whole=whole,
            probe=probe,
            stop=stop,
            resume=resume,
            ranks=job.ranks,
        )
        if loader.unreadable:
            result["replaced"] = len(loader.unreadable)
            names = ", ".join(loader.problems[index].name for index in loader.unreadable[:10])
            emit(Notice(f"images that could not be read and were replaced: {result['replaced']} ({names})"))
        return evaluation.reported(result) if evaluation else result
