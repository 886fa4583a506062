"""What a recipe takes of the machine's memory, refused before it is taken where there is not so much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from barlowctl import memory, shell
from barlowctl.errors import UserError
from barlowctl.generators import own_generator
from barlowctl.model import Footprint, without_data
from barlowctl.recipe.network import Model
from barlowctl.recipe.schema import Recipe

SAVED_AT_LEAST = 0.5
"""Share of the estimated activations that a step keeps for sure: fused kernels keep less than torch's own."""
MOST_SAVED = 4 * 1500
"""Bytes of activations a pixel of a view, at most: in fp32 ResNet-50 has 4 x 430, DenseNet-121 4 x 650."""
COPIES_OF_WEIGHTS = 6
"""Of weights and buffers, at most: gradients, two of the optimizer, those put back after a step that failed."""


def check_networks(recipe: Recipe, build: Callable[[], nn.Module]) -> None:
    """Refuse networks, queues and banks that the machine cannot hold, before one number of them is drawn.

    Args:
        build: makes them; called where tensors have no memory. What it cannot make there is not looked at.

    Raises:
        UserError: names the key that is largest beside what is usual, and a value that is.
    """
    try:
        with own_generator(), without_data():
            parts = build()
    except Exception as error:
        if memory.ran_out(error) is None:  # else it will be refused, or not, where it is built
            return
        raise _too_large(recipe, "weights, queues and banks take more memory than can be counted") from error
    if (needed := _bytes(parts)) > memory.total():
        raise _too_large(recipe, f"weights, queues and banks take {memory.size(needed)}")


def check_step(recipe: Recipe, step: Footprint, rows: int, processes: int = 1) -> None:
    """Refuse a step that this machine, whose processor computes it, cannot hold: the system would kill the run.

    Args:
        step: the estimate, for so many `rows` of a batch at a time. processes: of this machine, each with its own.

    Raises:
        UserError: with fewer images at a time, or a width that is usual.
    """
    fixed = processes * (step.total - step.activations + _working(recipe))
    activations = processes * step.activations * SAVED_AT_LEAST
    if fixed + activations <= memory.total():
        return
    room = max(memory.total() - fixed, 0) / 2
    about, least = (memory.size(fixed + share * activations) for share in (1 / SAVED_AT_LEAST, 1))
    takes = f"a step of {rows:,} images at a time takes about {about}, {least} at the least"
    error = _too_large(recipe, takes)
    if fixed <= memory.total() / 2:
        error.next = fewer_images(recipe, int(rows * room / activations))
    raise error


def may_be_too_large(recipe: Recipe, networks: nn.Module, pixels: int, processes: int = 1) -> bool:
    """Whether `check_step` could refuse a step on so many pixels of views; else its estimate is not needed."""
    activations = MOST_SAVED * SAVED_AT_LEAST * pixels
    return processes * (COPIES_OF_WEIGHTS * _bytes(networks) + _working(recipe) + activations) > memory.total()


def less_memory(recipe: Recipe) -> str:
    """What to set where memory ran out in a step: a width that is usual, or half as many images at a time."""
    if (largest := _largest(recipe)) is not None:
        return _usual(largest)
    return fewer_images(recipe, (recipe.train.micro_batch or recipe.train.batch_size) // 2)


def fewer_images(recipe: Recipe, rows: int) -> str:
    """What to set to have at most so many images in a pass, which leaves the gradient as it is."""
    fewer = f"--set train.micro_batch={max(4, rows)}" if rows >= 4 else "--set train.batch_size=4"
    return fewer if recipe.train.activation_checkpointing else f"{fewer}\n--set train.activation_checkpointing=true"


def smaller(recipe: Recipe) -> str:
    """What to set in place of what is largest beside what is usual."""
    largest = _largest(recipe)
    if largest is None:
        return "--set model.projector=[2048,2048,2048]\n--set model.backbone=resnet18 --set model.backbone_args={}"
    return _usual(largest)


def _usual(largest: tuple[str, Any, str]) -> str:
    """What to set in place of such a key."""
    key, _, usual = largest
    return shell.line("--set", f"{key}={usual}")


def _too_large(recipe: Recipe, takes: str) -> UserError:
    """The error of what takes so much; the key that is to blame stands before it with its value."""
    largest = _largest(recipe)
    cause = "" if largest is None else f"{largest[0]} is {largest[1]}: "
    return UserError(
        f"{cause}{takes}, and this machine has {memory.size(memory.total())} of memory", next=smaller(recipe)
    )


def _bytes(parts: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (*parts.parameters(), *parts.buffers()))


def _largest(recipe: Recipe) -> tuple[str, Any, str] | None:
    """The key that is farthest above what is usual of it, its value, and what is usual; None: none is above."""
    model, keys = recipe.model, recipe.objective
    usual = Model().projector
    sizes: list[tuple[float, str, Any, str]] = [
        (max(model.projector) / max(usual), "model.projector", list(model.projector), _listed(usual)),
        (max(model.predictor, default=0) / max(usual), "model.predictor", list(model.predictor), "[]"),
    ]
    for large in keys.large(recipe.train.batch_size):
        sizes.append((large.value / large.usual, f"objective.{large.key}", large.value, str(large.instead)))
    ratio, key, value, instead = max(sizes, key=lambda entry: entry[0])
    return (key, value, instead) if ratio > 1.0 else None


def _listed(widths: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, widths))}]"


def _working(recipe: Recipe) -> int:
    """Bytes that the objective takes for a while beside a step's."""
    return recipe.objective.working_bytes(recipe.train.batch_size, recipe.model.projector[-1])
