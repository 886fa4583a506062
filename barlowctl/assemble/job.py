"""A run put together from a recipe, and started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from barlowctl.assemble import run_images
from barlowctl.assemble.data import (
    Source,
    choose_loader,
    describe_labels,
    held_out,
    open_source,
    training_loader,
)
from barlowctl.assemble.evaluation import OnlineEvaluation
from barlowctl.assemble.machine import Runtime, check_compiler, device_of_rank, set_threads
from barlowctl.assemble.model import build_method, compile_networks, place, preprocessing_of
from barlowctl.assemble.precision import Precision, of_run
from barlowctl.data.loader import Loader
from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError
from barlowctl.model import InputNormalization, synchronize_batch_norm
from barlowctl.objective import BarlowTwins, choose_form
from barlowctl.recipe.caution import cautions
from barlowctl.recipe.schema import Recipe
from barlowctl.train import engine
from barlowctl.train.events import Notice, Sink, broadcast
from barlowctl.train.monitors import guarded
from barlowctl.train.optim import build_optimizer as build


@dataclass
class Job:
    """A run put together, not yet started. What is costly is made when first asked for."""

    recipe: Recipe
    runtime: Runtime
    data: str | None  # instead of the recipe's dataset
    device: torch.device
    threads: int
    source: Source
    ranks: Ranks = ALONE
    kept: Precision | None = None  # what the run began in, where it is resumed

    @cached_property
    def precision(self) -> Precision:
        """What is computed in: rank 0's choice on every rank."""
        if self.ranks.size > 1:
            _ = self.method  # one that cannot be built is refused by every rank, not by rank 0 while the others wait
        return self.ranks.from_first(
            of_run(self.recipe, self.device, ranks=self.ranks.size, kept=self.kept) if self.ranks.first else None
        )

    @cached_property
    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the images trained on, and of those held out."""
        return held_out(self.source, self.recipe)

    @cached_property
    def settings(self) -> engine.Settings:
        return settings(self.recipe, len(self.split[0]), self.precision.used, self.ranks.size)

    @cached_property
    def loader(self) -> Loader:
        return training_loader(
            self.source,
            self.recipe,
            self.runtime,
            self.device,
            batch_size=self.recipe.train.batch_size,
            drop_last=self.recipe.data.drop_last,
            subset=self.split[0],
            rank=self.ranks.rank,
            world_size=self.ranks.size,
        )

    @cached_property
    def method(self) -> BarlowTwins:
        method = build_method(self.recipe, self.ranks)
        if self.recipe.train.sync_batch_norm and self.ranks.size > 1:
            synchronize_batch_norm(method, self.ranks, self.device)
        return place(method, self.recipe, self.device)

    @cached_property
    def to_input(self) -> InputNormalization:
        return preprocessing_of(self.recipe).normalization().to(self.device)

    @property
    def dataset(self) -> str:
        """Which images were asked for."""
        return self.recipe.data.dataset if self.data is None else self.data

    def facts(self) -> dict[str, str]:
        """The run's first lines: what was resolved, and why."""
        held = f", {len(self.split[1]):,} held out" if len(self.split[1]) else ""
        return {
            "recipe": self.recipe.name,
            "data": f"{self.source.path}: {len(self.split[0]):,} images{held}",
            "labels": describe_labels(self.source),
            **self.source.account.facts(),
            "loader": str(choose_loader(self.source, self.runtime.loader)),
            **describe(self.recipe, self.settings, self.method, self.ranks.size),
            "device": describe_device(self.device, self.threads, self.precision),
            **describe_ranks(self.recipe, self.ranks),
        }


def prepare(recipe: Recipe, runtime: Runtime, data: str | None = None, ranks: Ranks = ALONE) -> Job:
    """Find the images and the device of a run (of this rank's part of it), and check that it can be.

    Raises:
        UserError: no such images or device, or sizes that do not fit together.
    """
    device = device_of_rank(runtime.device, ranks)
    if recipe.train.compile:
        check_compiler(device)
    job = Job(
        recipe,
        runtime,
        data,
        device,
        set_threads(runtime, recipe.train.cpu_threads, ranks),
        open_source(recipe, "train", data),
        ranks,
    )
    steps_per_epoch(recipe, len(job.split[0]), ranks.size)
    return job


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
    optimizer = build_optimizer(recipe, method)
    if job.ranks.rank:
        torch.manual_seed(recipe.seed + (job.ranks.rank << 32))  # weights are drawn; dropout differs between ranks
    if recipe.train.compile:
        compile_networks(method)

    def tell(text: str) -> None:
        emit(Notice(text))

    evaluation, everywhere = None, emit
    if job.ranks.first:
        evaluation = OnlineEvaluation(
            method, job.source, job.split, recipe, job.runtime, job.device, job.data, notify=tell
        )
        spectra = guarded(evaluation.record(run / "diagnostics"), f"the folder '{run / 'diagnostics'}'", tell)
        everywhere = broadcast(emit, spectra)
        asked = None if evaluation.queries is job.source else evaluation.queries
        if note := run_images.note_queries(run, asked):
            tell(note)
    with job.loader as loader:
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
            stop=stop,
            resume=resume,
            ranks=job.ranks,
        )
        if loader.unreadable:
            result["replaced"] = len(loader.unreadable)
            shown = ", ".join(loader.problems[index].name for index in loader.unreadable[:10])
            emit(Notice(f"images that could not be read and were replaced: {result['replaced']} ({shown})"))
        return evaluation.reported(result) if evaluation else result


def _images(count: int) -> str:
    return "one image" if count == 1 else f"{count} images"


def steps_per_epoch(recipe: Recipe, images: int, ranks: int = 1) -> int:
    """Steps of an epoch of `images` images, each batch shared by `ranks`.

    Raises:
        UserError: not one batch of them, a batch that cannot be shared equally, or a last batch with less than
            two images for each rank (batch norm and the loss need two).
    """
    train = recipe.train
    whole, rest = divmod(images, train.batch_size)
    steps = whole + (1 if rest and not recipe.data.drop_last else 0)
    if images < 2 * ranks:
        each = f", on each of {ranks} ranks" if ranks > 1 else ""
        raise UserError(
            f"the data has {_images(images)}, and the loss compares at least two{each}",
            next="name a folder with more images, or a data set of the data home, with --data",
        )
    if steps == 0:
        raise UserError(
            f"the data has {_images(images)}, not one batch of {train.batch_size}",
            next=f"--set train.batch_size={max(2, images // 2 // ranks) * ranks}",
        )
    if train.batch_size % ranks or train.batch_size < 2 * ranks:
        raise UserError(
            f"a batch of {train.batch_size} images cannot be shared equally by {ranks} ranks",
            allowed="a multiple of the number of ranks, at least two images each, or another number of ranks",
            next=f"--set train.batch_size={max(2, train.batch_size // ranks) * ranks}",
        )
    if 0 < rest < 2 * ranks and not recipe.data.drop_last:
        each = f"each of {ranks} ranks needs two" if ranks > 1 else "the loss needs two"
        count = "one image" if rest == 1 else f"{rest} images"
        raise UserError(
            f"the last batch of an epoch would have {count} ({images} images, batch {train.batch_size}), and {each}",
            next="--set data.drop_last=true",
        )
    return steps


def settings(recipe: Recipe, images: int, precision: str, ranks: int = 1) -> engine.Settings:
    """How a run over `images` images is trained, each batch shared by `ranks`, computed in `precision`.

    Raises:
        UserError: see `steps_per_epoch`.
    """
    train = recipe.train
    return engine.Settings(
        epochs=train.epochs,
        steps_per_epoch=steps_per_epoch(recipe, images, ranks),
        warmup_epochs=train.warmup_epochs,
        final_lr_scale=train.final_lr_scale,
        precision=precision,
        log_every_steps=train.log_every_steps,
        checkpoint_every_epochs=train.checkpoint_every_epochs,
        keep_checkpoints=train.keep_checkpoints,
        evaluate_every_epochs=recipe.eval.every_epochs,
        checkpoint_every_steps=train.checkpoint_every_steps,
        micro_batch=train.micro_batch,
        activation_checkpointing=train.activation_checkpointing,
        gradient_scale=train.gradient_scale,
    )


def checkpoint_bytes(method: BarlowTwins, recipe: Recipe) -> int:
    """What a checkpoint takes at least: the networks' state, and the optimizer's moments of what is trained."""
    state = sum(tensor.numel() * tensor.element_size() for tensor in method.state_dict().values())
    trained = sum(p.numel() * p.element_size() for p in method.parameters() if p.requires_grad)
    return state + trained * (2 if recipe.optimizer.name == "adamw" else 1)


def learning_rates(recipe: Recipe) -> dict[str, float]:
    """Peaks of the two parameter groups."""
    share = recipe.train.batch_size / 256
    return {"weights": recipe.optimizer.lr * share, "biases": recipe.optimizer.lr_biases * share}


def build_optimizer(recipe: Recipe, method: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer over the method's parameters."""
    values, rates = recipe.optimizer, learning_rates(recipe)
    return build(
        method,
        values.name,
        lr=rates["weights"],
        lr_biases=rates["biases"],
        weight_decay=values.weight_decay,
        momentum=values.momentum,
        betas=values.betas,
        eta=values.eta,
        clip_trust_ratio=values.clip_trust_ratio,
    )


def describe(recipe: Recipe, length: engine.Settings, method: BarlowTwins, ranks: int = 1) -> dict[str, str]:
    """Model, objective, optimizer and length of a run, for people."""
    width, batch = recipe.model.projector[-1], recipe.train.batch_size
    form = choose_form(batch, width, ranks) if recipe.objective.form == "auto" else recipe.objective.form
    if recipe.objective.criterion == "cross-entropy":
        form = "primal"
    over = f" over {ranks} ranks" if ranks > 1 else ""
    rates = ", ".join(f"{group} {rate:.4g}" for group, rate in learning_rates(recipe).items())
    widths = "-".join(map(str, recipe.model.projector))
    seen = f"shorter side to {recipe.eval.resize} pixels, centre {recipe.eval.crop} x {recipe.eval.crop}"
    warned = {"warning": "; ".join(cautions(recipe))} if cautions(recipe) else {}
    return {
        "model": f"{recipe.model.backbone}, {_count(method.backbone):,} parameters; "
        f"projector {widths}, {_count(method.projector):,}",
        "objective": f"lambd {recipe.objective.lambd:g}, {form} form at batch {batch}{over} and width {width}",
        "optimizer": f"{recipe.optimizer.name}, peak learning rates: {rates}",
        "length": f"{length.epochs:,} epochs of {length.steps_per_epoch:,} steps: {length.total_steps:,} steps",
        "measuring": seen,
        **warned,
    }


def describe_device(device: torch.device, threads: int, precision: Precision) -> str:
    """The device and the precision, for people."""
    if device.type == "cpu":
        return f"cpu, {threads} thread{'s' if threads > 1 else ''}, {precision}"
    return f"{torch.cuda.get_device_name(device)}, {precision}"


def describe_ranks(recipe: Recipe, ranks: Ranks) -> dict[str, str]:
    """How a run is spread and what its memory is spared, for people; only what applies."""
    train, facts = recipe.train, {}
    if ranks.size > 1:
        norm = "over all ranks" if train.sync_batch_norm else "of each rank by itself (train.sync_batch_norm)"
        gradient = {
            "exact": "of the global batch's loss (exact)",
            "reference": f"1/{ranks.size} of the global batch's loss (reference)",
        }[train.gradient_scale]
        facts["ranks"] = f"{ranks.size}, {train.batch_size // ranks.size} images each; batch norm {norm}"
        facts["gradient"] = gradient
    if train.micro_batch:
        facts["passes"] = f"two, in micro-batches of {train.micro_batch}; batch norm sees one at a time"
    if train.activation_checkpointing:
        facts["activations"] = "computed again in the backward pass"
    return facts


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
