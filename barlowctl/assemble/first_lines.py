"""The first lines of a run and of its dry run: what was resolved, and why, for people."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import torch
from torch import nn

from barlowctl import compiled_code
from barlowctl.amounts import counted
from barlowctl.assemble.data import ImageSet, describe_labels
from barlowctl.assemble.image_sizes import describe_enlargement
from barlowctl.assemble.machine import Runtime, fewer_threads
from barlowctl.assemble.precision import Precision
from barlowctl.assemble.resolve import Resolved, whole_set
from barlowctl.methods import Method
from barlowctl.model import NOTHING, WHOLE, frozen_modules, frozen_parameters
from barlowctl.recipe.caution import cautions
from barlowctl.recipe.idle import without_effect
from barlowctl.recipe.schema import Recipe
from barlowctl.recipe.views import Patches
from barlowctl.train.layer_decay import layer_scales


def first_lines(
    resolved: Resolved,
    runtime: Runtime,
    method: Method,
    precision: Precision,
    images: Mapping[str, str],
    start: Mapping[str, str],
) -> dict[str, str]:
    """What was resolved, and why, for people: the first lines of a run and of its dry run.

    Args:
        images: see `describe_images`. start: the weights that the first step finds, see `describe_start`.
    """
    return {
        "recipe": resolved.recipe.name,
        **images,
        **start,
        **describe(resolved, method),
        "device": describe_device(resolved, runtime, precision),
        **describe_compiling(resolved),
        **describe_ranks(resolved),
    }


def describe_images(source: ImageSet, resolved: Resolved) -> dict[str, str]:
    """The training images and how they are read, for people."""
    held = f", {resolved.held_out:,} held out" if resolved.held_out else ""
    return {
        "data": f"{source.path}: {counted(resolved.images, 'image')}{held}",
        "labels": describe_labels(source),
        **source.scan_report.first_lines(),
        "loader": str(resolved.loader),
        **describe_enlargement(source, resolved.recipe),
    }


def describe_start(recipe: Recipe) -> dict[str, str]:
    """What a run that goes on started from, for people; nothing of one that started from random weights."""
    init = recipe.init
    return {"start": f"{init.weights} (sha256 {init.sha256[:12]}), read when the run began"} if init.weights else {}


def describe(resolved: Resolved, method: Method) -> dict[str, str]:
    """Model, objective, optimizer and length of a run, for people."""
    recipe, ranks = resolved.recipe, resolved.ranks
    rates = ", ".join(f"{group} {rate:.4g}" for group, rate in resolved.rates.items())
    heads = [
        f"{name} {'-'.join(str(layer.out_features) for layer in head.modules() if isinstance(layer, nn.Linear))}, "
        f"{_count(head):,}"
        for name, head in method.heads().items()
    ]
    limit = recipe.optimizer.clip_grad_norm
    clipped = f"; gradients of a norm above {limit:g} scaled down to it" if limit else ""
    epochs, preprocessing = recipe.train.epochs, resolved.preprocessing
    crop = preprocessing.crop
    seen = f"shorter side to {preprocessing.resize} pixels, centre {crop} x {crop}"
    warned = {"warning": "; ".join(cautions(recipe))} if cautions(recipe) else {}
    return {
        "model": "; ".join([f"{recipe.model.backbone}, {_count(method.backbone):,} parameters", *heads]),
        "objective": f"{recipe.objective.name}, {method.describe(resolved.batch, ranks)}",
        "views": describe_views(recipe),
        "optimizer": f"{recipe.optimizer.name}, peak learning rates: {rates}{clipped}; {describe_schedule(recipe)}",
        **describe_adaptation(recipe, method),
        "length": f"{counted(epochs, 'epoch')} of {counted(resolved.steps_per_epoch, 'step')}: "
        f"{counted(resolved.total_steps, 'step')}",
        **({"batch": whole_set(recipe, resolved.images)} if resolved.batch < recipe.train.batch_size else {}),
        "measuring": seen,
        **without_effect(recipe),
        **warned,
    }


def describe_adaptation(recipe: Recipe, method: Method) -> dict[str, str]:
    """What of the backbone stays as it is, and what share of the rates its layers have; only what applies."""
    lines, train = {}, recipe.train
    still = []
    if train.freeze != NOTHING:
        part = "the whole backbone" if train.freeze == WHOLE else f"the backbone up to {train.freeze}"
        count = sum(p.numel() for p in frozen_parameters(method.backbone, train.freeze))
        buffers = [name for m in frozen_modules(method.backbone, train.freeze) for name, _ in m.named_buffers()]
        norm = ", and its batch norm" if any(name.endswith("running_mean") for name in buffers) else ""
        still.append(f"{part}: {count:,} of its {_count(method.backbone):,} parameters{norm}")
    if train.freeze_backbone_epochs and train.freeze != WHOLE:
        epochs = "epoch" if train.freeze_backbone_epochs == 1 else f"{train.freeze_backbone_epochs:g} epochs"
        still.append(f"all of the backbone for the first {epochs}, while the heads learn")
    if still:
        lines["frozen"] = "; ".join(still)
    if recipe.optimizer.layer_decay < 1.0:
        shares = layer_scales(method.backbone, recipe.optimizer.layer_decay).values()
        lines["layers"] = (
            f"rates of the backbone times {recipe.optimizer.layer_decay:g} from layer to layer: "
            f"{min(shares):.3g} at the stem, {max(shares):.3g} at the top, 1 at the heads"
        )
    return lines


def describe_views(recipe: Recipe) -> str:
    """How many views of each size an image has, in their order, for people."""
    kinds = [(size, "patches" if isinstance(view, Patches) else "") for size, view in recipe.drawn()]
    groups = [(kind, len(list(group))) for kind, group in itertools.groupby(kinds)]
    return ", ".join(f"{count} {what + ' ' if what else ''}of {size} pixels" for (size, what), count in groups)


def describe_schedule(recipe: Recipe) -> str:
    """What the learning rates do, for people."""
    train = recipe.train
    start = f" from {train.warmup_start_scale:g} of the peak" if train.warmup_start_scale else ""
    parts = [f"warm-up of {counted(train.warmup_epochs, 'epoch')}{start}"] if train.warmup_epochs else []
    match train.schedule:
        case "cosine":
            every = " once an epoch" if train.schedule_every == "epoch" else ""
            parts.append(f"cosine{every} to {train.final_lr_scale:g} of the peak")
        case "step":
            after = ", ".join(str(epoch) for epoch in train.milestones)
            several = "epochs" if len(train.milestones) > 1 else "epoch"
            parts.append(f"times {train.milestone_factor:g} after {several} {after}")
        case "constant":
            parts.append("constant")
    return ", then ".join(parts)


def describe_device(resolved: Resolved, runtime: Runtime, precision: Precision) -> str:
    """The device and the precision, for people."""
    device, threads = resolved.device, resolved.threads
    if device.type == "cpu":
        variable = fewer_threads(runtime, resolved.recipe.train.cpu_threads, resolved.ranks)
        return f"cpu, {counted(threads, 'thread')}{f' ({variable})' if variable else ''}, {precision}"
    return f"{torch.cuda.get_device_name(device)}, {precision}"


def describe_compiling(resolved: Resolved) -> dict[str, str]:
    """What is compiled, and whether later runs find it, for people; only where something is."""
    if not resolved.recipe.train.compile:
        return {}
    return {"compiling": f"backbone and heads, at the first step; {compiled_code.place()}"}


def describe_ranks(resolved: Resolved) -> dict[str, str]:
    """How a run is spread and what its memory is spared, for people; only what applies."""
    train, ranks, lines = resolved.recipe.train, resolved.ranks, {}
    if ranks > 1:
        size = train.batch_norm_ranks(ranks)
        norm = {1: "of each rank by itself (train.sync_batch_norm)", ranks: "over all ranks"}.get(
            size, f"over groups of {size} ranks"
        )
        gradient = {
            "exact": "of the global batch's loss (exact)",
            "reference": f"1/{ranks} of the global batch's loss (reference)",
        }[train.gradient_scale]
        lines["ranks"] = f"{ranks}, {math.ceil(resolved.batch / ranks)} images each; batch norm {norm}"
        lines["gradient"] = gradient
    if resolved.shards:
        lines["sharding"] = f"the backbone's weights, gradients and optimizer state over {ranks} ranks (FSDP2)"
    elif train.shard:
        lines["sharding"] = "none: this is one process (train.shard)"
    if train.micro_batch:
        lines["passes"] = f"two, in micro-batches of {train.micro_batch}; batch norm sees one at a time"
    if train.activation_checkpointing:
        lines["activations"] = "computed again in the backward pass"
    return lines


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
