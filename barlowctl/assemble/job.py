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
    ImageSet,
    choose_loader,
    count_classes,
    describe_labels,
    held_out,
    learned_from,
    open_recipe_images,
    training_loader,
)
from barlowctl.assemble.evaluation import OnlineEvaluation
from barlowctl.assemble.machine import Runtime, check_compiler, device_of_rank, set_threads
from barlowctl.assemble.methods import Context
from barlowctl.assemble.model import begin_method, compile_networks, place
from barlowctl.assemble.precision import Precision, of_run
from barlowctl.assemble.resolve import Resolved, resolve
from barlowctl.data.loaders.fast import Loader
from barlowctl.distributed import ALONE, Ranks
from barlowctl.methods import Method
from barlowctl.model import InputNormalization, synchronize_batch_norm
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
    source: ImageSet
    resolved: Resolved
    ranks: Ranks = ALONE
    earlier_precision: Precision | None = None  # what the run began in, where it is resumed

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
    def loader(self) -> Loader:
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
        return Context(self.ranks, self.source.num_samples, count_classes(self.source))

    @cached_property
    def method(self) -> Method:
        method = begin_method(self.recipe, self.context)
        if self.recipe.train.sync_batch_norm and self.ranks.size > 1:
            synchronize_batch_norm(method, self.ranks, self.device)
        return place(method, self.recipe, self.device)

    @cached_property
    def to_input(self) -> InputNormalization:
        return self.resolved.preprocessing.normalization().to(self.device)

    @property
    def dataset(self) -> str:
        """Which images were asked for."""
        return self.recipe.data.dataset if self.data is None else self.data

    def first_lines(self) -> dict[str, str]:
        """The run's first lines: what was resolved, and why."""
        return first_lines(self.resolved, self.method, self.precision, describe_images(self.source, self.resolved))


def prepare(recipe: Recipe, runtime: Runtime, data: str | None = None, ranks: Ranks = ALONE) -> Job:
    """Find the images and the device of a run (of this rank's part of it), and check that it can be.

    Raises:
        UserError: no such images or device, or sizes that do not fit together.
    """
    device = device_of_rank(runtime.device, ranks)
    if recipe.train.compile:
        check_compiler(device)
    threads = set_threads(runtime, recipe.train.cpu_threads, ranks)
    source = open_recipe_images(recipe, "train", data)
    loader = choose_loader(source, runtime.loader)
    usable = len(learned_from(source, recipe))
    resolved = resolve(recipe, device, threads, usable, loader, ranks=ranks.size)
    return Job(recipe, runtime, data, source, resolved, ranks)


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
    optimizer = build_optimizer(recipe, method, job.resolved.rates)
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


def checkpoint_bytes(method: Method, recipe: Recipe) -> int:
    """What a checkpoint takes at least: the networks' state, and the optimizer's moments of what is trained."""
    state = sum(tensor.numel() * tensor.element_size() for tensor in method.state_dict().values())
    trained = sum(p.numel() * p.element_size() for p in method.parameters() if p.requires_grad)
    return state + trained * (2 if recipe.optimizer.name == "adamw" else 1)


def build_optimizer(recipe: Recipe, method: Method, rates: Mapping[str, float]) -> torch.optim.Optimizer:
    """The recipe's optimizer over the method's parameters, with the peak `rates` of its two groups."""
    values = recipe.optimizer
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
        lars_variant=values.lars_variant,
        nesterov=values.nesterov,
        exclude_biases=values.exclude_biases,
        fixed=[method.heads()[name] for name in method.fixed_rates],
    )


def first_lines(resolved: Resolved, method: Method, precision: Precision, images: Mapping[str, str]) -> dict[str, str]:
    """What was resolved, and why, for people: the first lines of a run and of its dry run.

    Args:
        images: see `describe_images`.
    """
    return {
        "recipe": resolved.recipe.name,
        **images,
        **describe(resolved, method),
        "device": describe_device(resolved, precision),
        **describe_ranks(resolved),
    }


def describe_images(source: ImageSet, resolved: Resolved) -> dict[str, str]:
    """The training images and how they are read, for people."""
    held = f", {resolved.held_out:,} held out" if resolved.held_out else ""
    return {
        "data": f"{source.path}: {resolved.images:,} images{held}",
        "labels": describe_labels(source),
        **source.scan_report.first_lines(),
        "loader": str(resolved.loader),
    }


def describe(resolved: Resolved, method: Method) -> dict[str, str]:
    """Model, objective, optimizer and length of a run, for people."""
    recipe, ranks = resolved.recipe, resolved.ranks
    rates = ", ".join(f"{group} {rate:.4g}" for group, rate in resolved.rates.items())
    heads = [
        f"{name} {'-'.join(str(layer.out_features) for layer in head.modules() if isinstance(layer, nn.Linear))}, "
        f"{_count(head):,}"
        for name, head in method.heads().items()
    ]
    epochs, shown = recipe.train.epochs, resolved.preprocessing
    seen = f"shorter side to {shown.resize} pixels, centre {shown.crop} x {shown.crop}"
    warned = {"warning": "; ".join(cautions(recipe))} if cautions(recipe) else {}
    return {
        "model": "; ".join([f"{recipe.model.backbone}, {_count(method.backbone):,} parameters", *heads]),
        "objective": method.describe(recipe.train.batch_size, ranks),
        "optimizer": f"{recipe.optimizer.name}, peak learning rates: {rates}",
        "length": f"{epochs:,} epochs of {resolved.steps_per_epoch:,} steps: {resolved.total_steps:,} steps",
        "measuring": seen,
        **warned,
    }


def describe_device(resolved: Resolved, precision: Precision) -> str:
    """The device and the precision, for people."""
    device, threads = resolved.device, resolved.threads
    if device.type == "cpu":
        return f"cpu, {threads} thread{'s' if threads > 1 else ''}, {precision}"
    return f"{torch.cuda.get_device_name(device)}, {precision}"


def describe_ranks(resolved: Resolved) -> dict[str, str]:
    """How a run is spread and what its memory is spared, for people; only what applies."""
    train, ranks, lines = resolved.recipe.train, resolved.ranks, {}
    if ranks > 1:
        norm = "over all ranks" if train.sync_batch_norm else "of each rank by itself (train.sync_batch_norm)"
        gradient = {
            "exact": "of the global batch's loss (exact)",
            "reference": f"1/{ranks} of the global batch's loss (reference)",
        }[train.gradient_scale]
        lines["ranks"] = f"{ranks}, {train.batch_size // ranks} images each; batch norm {norm}"
        lines["gradient"] = gradient
    if train.micro_batch:
        lines["passes"] = f"two, in micro-batches of {train.micro_batch}; batch norm sees one at a time"
    if train.activation_checkpointing:
        lines["activations"] = "computed again in the backward pass"
    return lines


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
