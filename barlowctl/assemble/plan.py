"""What a run would be, before it is one: steps, parameters, memory, time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from barlowctl import memory, waits
from barlowctl.amounts import counted
from barlowctl.assemble.data import ImageSet, choose_loader, count_classes, open_recipe_images
from barlowctl.assemble.evaluation import OnlineEvaluation
from barlowctl.assemble.first_lines import describe_images, describe_start, first_lines
from barlowctl.assemble.holdout import count, held_out
from barlowctl.assemble.job import started
from barlowctl.assemble.machine import Runtime, check_compiler, choose_device, set_threads
from barlowctl.assemble.memory import check_step, fewer_images, may_be_too_large
from barlowctl.assemble.methods import Context
from barlowctl.assemble.model import build_method, move_to_device
from barlowctl.assemble.optimizers import note_own, optimizer_of, state_slots
from barlowctl.assemble.precision import of_run, recorded_by
from barlowctl.assemble.resolve import Resolved, resolve
from barlowctl.assemble.sharding import divided
from barlowctl.assemble.synthetic_steps import SyntheticSteps, batch_of_pixels
from barlowctl.datasets import training_images
from barlowctl.errors import UserError
from barlowctl.generators import own_generator
from barlowctl.methods import Method
from barlowctl.model import Footprint, estimate_memory
from barlowctl.recipe.schema import Recipe
from barlowctl.train import gradient
from barlowctl.waits import Wait

TIMED_PIXELS = {"cpu": 16 * 224**2, "cuda": 256 * 224**2}  # of a timed step, half of its views (see `batch_of_pixels`)
TIMED_STEPS = 2
LARGE = 4 << 30  # bytes of a step beside activations, from where on it is said beforehand what timing it takes
LONG_STEP = 4.0  # seconds; one such step tells the rate as well as two
LONGEST_STEP = 20.0  # seconds; of such a step what is done once is little, and it is timed itself


def plan(
    recipe: Recipe, runtime: Runtime, data: str | None = None, ranks: int = 1, *, resume: Path | None = None
) -> dict[str, Any]:
    """Everything `--dry-run` shows, as JSON-able values; memory is that of one of `ranks`, time that of one device.

    Args:
        resume: the run that would be gone on with, in the precision that it keeps.

    Raises:
        UserError: what would be refused when the run starts; data that is missing and of unknown size.
    """
    recipe, start = started(recipe, resume=resume)
    device = choose_device(runtime.device)
    if recipe.train.compile:
        check_compiler(device)
    threads = set_threads(runtime, recipe.train.cpu_threads)
    source, images, missing = _data(recipe, data)
    context = Context(images=images) if source is None else Context(images=images, classes=count_classes(source))
    usable, held = count(source, images, recipe)
    loader = None if source is None else choose_loader(source, runtime.loader)
    resolved = resolve(recipe, device, threads, usable, loader, ranks=ranks, held=held)
    method = build_method(recipe, context)
    if start is not None:
        start.fill(method)
    note_own(recipe, method, resolved)  # what cannot train is refused before it is timed
    _say_what_timing_takes(resolved, method)
    precision = of_run(recipe, device, ranks=ranks, earlier=recorded_by(resume) if resume else None)  # takes seconds
    of_images = {"data": missing} if source is None else describe_images(source, resolved)
    lines = first_lines(
        resolved, runtime, method, precision, of_images, start.lines() if start else describe_start(recipe)
    )
    if source is not None:
        lines |= _of_online_knn(method, source, resolved, runtime, data)
    step = footprint(resolved, method, precision.used)
    lines |= _of_another_machine(resolved, step)
    with own_generator(device=device):
        rate, how = measure_rate(resolved, method, precision.used)
    seconds = resolved.images_seen / rate
    return {
        "facts": lines,
        "images": images,
        "epochs": recipe.train.epochs,
        "steps": resolved.total_steps,
        "steps_per_epoch": resolved.steps_per_epoch,
        "peak_learning_rates": dict(resolved.rates),
        "parameters": {
            name: sum(p.numel() for p in part.parameters())
            for name, part in {"backbone": method.backbone, **method.heads()}.items()
        },
        "memory": _bytes_of(step),
        "rate": {
            "images_per_second": rate,
            "seconds": seconds,
            "source": how,
            "devices": resolved.ranks,
        },
        "start": start.record() if start else None,
        "recipe": recipe.model_dump(mode="json"),
    }


def _data(recipe: Recipe, data: str | None) -> tuple[ImageSet | None, int, str]:
    """The training images where they are here, how many there are, and in words that they are not here yet."""
    try:
        source = open_recipe_images(recipe, "train", data)
    except UserError as error:
        size = training_images(recipe.data.dataset)
        if data is not None or size is None:
            raise
        missing = f"{recipe.data.dataset}: not here yet (published size: {counted(size, 'image')}); {error.next}"
        return None, size, missing
    return source, source.num_samples, ""


def _say_what_timing_takes(resolved: Resolved, method: Method) -> None:
    """Say that steps are timed for which much memory is filled, before it is: heads may have most of the weights."""
    weights = [p for p in method.parameters() if p.requires_grad]
    each = 2 + state_slots(resolved.recipe, method, resolved.rates)  # weights, gradients, and what the optimizer keeps
    bytes_taken = round(each * sum(p.numel() * p.element_size() for p in weights))
    bytes_taken += sum(buffer.numel() * buffer.element_size() for buffer in method.buffers())
    if bytes_taken >= LARGE:
        waits.say(
            f"steps of {counted(sum(p.numel() for p in weights), 'parameter')} are timed here, which takes "
            f"{memory.size(bytes_taken)} of memory and, on a CPU, minutes ..."
        )


def _bytes_of(step: Footprint) -> dict[str, int]:
    parts = ("total", "activations", "parameters", "gradients", "optimizer", "buffers")
    return {part: getattr(step, part) for part in parts}


def _of_online_knn(
    method: Method, source: ImageSet, resolved: Resolved, runtime: Runtime, data: str | None
) -> dict[str, str]:
    """What the run would note of the kNN that is measured while it trains: that there is none, say, and why."""
    recipe = resolved.recipe
    notes: list[str] = []
    OnlineEvaluation(
        method, source, held_out(source, recipe), recipe, runtime, resolved.device, data, notify=notes.append
    )
    return {"note": "; ".join(notes)} if notes else {}


def _of_another_machine(resolved: Resolved, step: Footprint) -> dict[str, str]:
    """In words, that a run on this machine's processor would or might not fit; a plan may be for another machine."""
    if resolved.device.type != "cpu" or resolved.recipe.train.compile:
        return {}
    try:
        check_step(resolved.recipe, step, rows_of(resolved))
    except UserError as error:
        smaller = " or ".join((error.next or "").splitlines())
        return {"this machine": f"does not hold the run as it is: {error.message}; {smaller} makes it smaller"}
    if step.total > (room := memory.total()):  # the estimate is torch's own kernels', of which some keep less
        fewer = fewer_images(resolved.recipe, int(rows_of(resolved) * room / step.total))
        makes = " or ".join(fewer.splitlines()) + " makes it smaller"
        return {"this machine": f"has {memory.size(room)} of memory, which may be too little for a step; {makes}"}
    return {}


class _Loss(nn.Module):
    """The method as a module from views to the loss alone."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, *views: Tensor) -> Tensor:
        loss: Tensor = self.method(views).loss
        return loss


def rows_of(resolved: Resolved) -> int:
    """Images of a rank's pass: its share of the batch, or the micro-batch where there is one."""
    train = resolved.recipe.train
    share = math.ceil(resolved.batch / resolved.ranks)
    return min(train.micro_batch or share, share)


def check_memory(resolved: Resolved, method: Method, precision: str, processes: int = 1) -> None:
    """`check_step` of a run on the CPU; estimated, which takes a second, only where it may be too large.

    What torch compiles keeps less than the estimate, and is let through; a GPU says by itself that it is full.

    Args:
        processes: of this machine, each with a network of its own.
    """
    recipe, rows = resolved.recipe, rows_of(resolved)
    if resolved.device.type != "cpu" or recipe.train.compile:
        return
    pixels = rows * sum(size**2 for size in recipe.sizes)
    if may_be_too_large(recipe, method, pixels, processes):
        check_step(recipe, footprint(resolved, method, precision), rows, processes)


def footprint(resolved: Resolved, method: Method, precision: str) -> Footprint:
    """Memory of one training step at a rank's share of the batch, or at the micro-batch where there is one."""
    recipe, rows = resolved.recipe, rows_of(resolved)
    shapes = [(rows, resolved.preprocessing.channels, size, size) for size in recipe.sizes]
    step = estimate_memory(
        _Loss(method),
        lambda: tuple(torch.zeros(shape) for shape in shapes),
        optimizer_slots=state_slots(recipe, method, resolved.rates),
        autocast=gradient.AUTOCAST[precision],
        copies=2 * method.taken_back(),  # of two steps, see `TrainingStep`
    )
    return divided(step, method.backbone, resolved.ranks) if resolved.shards else step


def measure_rate(resolved: Resolved, method: Method, precision: str) -> tuple[float, str]:
    """Images per second of training steps on random pixels, and how it was measured.

    A part of the batch is timed where it is large. The optimizer works once a step, however many images are in it.
    """
    recipe, device = resolved.recipe, resolved.device
    batch = batch_of_pixels(recipe, TIMED_PIXELS[device.type])
    method = move_to_device(method, recipe, device)
    optimizer = optimizer_of(recipe, method, resolved.rates)
    in_parts = rows_of(resolved) < resolved.batch // resolved.ranks
    micro_batch = min(recipe.train.micro_batch, batch // 2) if in_parts else 0
    synthetic_steps = SyntheticSteps(
        resolved.preprocessing, method, device, batch, optimizer, sizes=recipe.sizes, micro_batch=micro_batch
    )
    with Wait(f"timing steps of {batch} images, of which the first also takes memory and chooses kernels ..."):
        times = [synthetic_steps.take(precision)]
        if times[0].of(1) < LONGEST_STEP:
            times = [synthetic_steps.take(precision)]
        while len(times) < TIMED_STEPS and times[-1].of(1) < LONG_STEP:
            times.append(synthetic_steps.take(precision))
    seconds = min(step.of(resolved.batch / batch) for step in times)
    how = f"measured now: {counted(len(times), 'step')} of {batch} images on this device, loading not counted"
    return resolved.batch / seconds, how
