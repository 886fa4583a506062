"""A run put together from a recipe, and started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from barlowctl.assemble.data import Source, build_loader, explain_loader, held_out, open_source, view_specs
from barlowctl.assemble.evaluation import online_evaluation
from barlowctl.assemble.machine import Runtime, choose_device, refuse_several_devices, set_threads, usable_precision
from barlowctl.assemble.model import build_method, normalization
from barlowctl.data.beton import Beton
from barlowctl.data.loader import Loader
from barlowctl.errors import UserError
from barlowctl.model import InputNormalization
from barlowctl.objective import BarlowTwins, choose_form
from barlowctl.recipe.schema import Recipe
from barlowctl.train import engine
from barlowctl.train.events import Sink
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

    @cached_property
    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the images trained on, and of those held out."""
        return held_out(self.source, self.recipe)

    @cached_property
    def settings(self) -> engine.Settings:
        return settings(self.recipe, len(self.split[0]), self.device)

    @cached_property
    def loader(self) -> Loader:
        return build_loader(
            self.source,
            view_specs(self.recipe),
            self.recipe,
            self.runtime,
            self.device,
            batch_size=self.recipe.train.batch_size,
            drop_last=self.recipe.data.drop_last,
            subset=self.split[0],
        )

    @cached_property
    def method(self) -> BarlowTwins:
        return place(build_method(self.recipe), self.recipe, self.device)

    @cached_property
    def to_input(self) -> InputNormalization:
        return normalization(self.recipe).to(self.device)

    def data_hash(self) -> str | None:
        """Hash of the packed images; None for a folder."""
        return self.source.content_hash if isinstance(self.source, Beton) else None

    def facts(self) -> dict[str, str]:
        """The run's first lines: what was resolved, and why."""
        name, why = explain_loader(self.source, self.runtime.loader)
        held = f", {len(self.split[1]):,} held out" if len(self.split[1]) else ""
        return {
            "recipe": self.recipe.name,
            "data": f"{self.source.path}: {len(self.split[0]):,} images{held}",
            "loader": f"{name} ({why})",
            **describe(self.recipe, self.settings, self.method),
            "device": describe_device(self.device, self.threads, self.recipe),
        }


def prepare(recipe: Recipe, runtime: Runtime, data: str | None = None) -> Job:
    """Find the images and the device of a run, and check that it can be.

    Raises:
        UserError: no such images or device, or sizes that do not fit together.
    """
    refuse_several_devices()
    device = choose_device(runtime.device)
    job = Job(
        recipe,
        runtime,
        data,
        device,
        set_threads(runtime, recipe.train.cpu_threads),
        open_source(recipe, "train", data),
    )
    assert job.settings.total_steps > 0
    return job


def pretrain(
    job: Job, run: Path, emit: Sink, *, digest: str, stop: Callable[[], bool] = lambda: False, resume: bool = False
) -> dict[str, Any]:
    """Train a job in its run directory; returns the values of its result. See `engine.train`."""
    recipe, method = job.recipe, job.method
    optimizer = build_optimizer(recipe, method)
    if recipe.train.compile:
        method.backbone.compile()
        method.projector.compile()
    with job.loader as loader:
        return engine.train(
            method,
            loader,
            optimizer,
            job.settings,
            to_input=job.to_input,
            device=job.device,
            emit=emit,
            checkpoints=run / "checkpoints",
            recipe_digest=digest,
            evaluate=online_evaluation(
                method.backbone, job.source, job.split, recipe, job.runtime, job.device, job.data
            ),
            stop=stop,
            resume=resume,
        )


def settings(recipe: Recipe, images: int, device: torch.device) -> engine.Settings:
    """The length of a run over `images` images.

    Raises:
        UserError: not one batch of them, or a last batch of one image.
    """
    train = recipe.train
    whole, rest = divmod(images, train.batch_size)
    steps = whole + (1 if rest and not recipe.data.drop_last else 0)
    if steps == 0 or images < 2:
        raise UserError(
            f"the data has {images} images, not one batch of {train.batch_size}",
            next=f"--set train.batch_size={max(2, images // 2)}",
        )
    if rest == 1 and not recipe.data.drop_last:
        raise UserError(
            f"the last batch of an epoch would have one image ({images} images, batch {train.batch_size}), "
            "and the loss needs two",
            next="--set data.drop_last=true",
        )
    return engine.Settings(
        epochs=train.epochs,
        steps_per_epoch=steps,
        warmup_epochs=train.warmup_epochs,
        final_lr_scale=train.final_lr_scale,
        precision=usable_precision(train.precision, device),
        log_every_steps=train.log_every_steps,
        checkpoint_every_epochs=train.checkpoint_every_epochs,
        keep_checkpoints=train.keep_checkpoints,
        evaluate_every_epochs=recipe.eval.every_epochs,
    )


def place(method: BarlowTwins, recipe: Recipe, device: torch.device) -> BarlowTwins:
    """The method on its device, in the recipe's memory format."""
    if recipe.train.channels_last:
        method.to(memory_format=torch.channels_last)
    return method.to(device)


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


def describe(recipe: Recipe, length: engine.Settings, method: BarlowTwins) -> dict[str, str]:
    """Model, objective, optimizer and length of a run, for people."""
    width, batch = recipe.model.projector[-1], recipe.train.batch_size
    form = choose_form(batch, width) if recipe.objective.form == "auto" else recipe.objective.form
    rates = ", ".join(f"{group} {rate:.4g}" for group, rate in learning_rates(recipe).items())
    widths = "-".join(map(str, recipe.model.projector))
    return {
        "model": f"{recipe.model.backbone}, {_count(method.backbone):,} parameters; "
        f"projector {widths}, {_count(method.projector):,}",
        "objective": f"lambd {recipe.objective.lambd:g}, {form} form at batch {batch} and width {width}",
        "optimizer": f"{recipe.optimizer.name}, peak learning rates: {rates}",
        "length": f"{length.epochs:,} epochs of {length.steps_per_epoch:,} steps: {length.total_steps:,} steps",
    }


def describe_device(device: torch.device, threads: int, recipe: Recipe) -> str:
    """The device and the precision, for people."""
    asked, used = recipe.train.precision, usable_precision(recipe.train.precision, device)
    precision = used if used == asked else f"{used} (the recipe's {asked} is far slower on a CPU)"
    if device.type == "cpu":
        return f"cpu, {threads} thread{'s' if threads > 1 else ''}, {precision}"
    return f"{torch.cuda.get_device_name(device)}, {precision}"


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
