"""What a benchmark takes of memory, refused before anything is made where there is not so much."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from barlowctl import memory
from barlowctl.assemble.memory import SAVED_AT_LEAST
from barlowctl.assemble.model import build_method
from barlowctl.assemble.plan import check_memory
from barlowctl.assemble.resolve import resolve
from barlowctl.bench.loss_contests import Contest
from barlowctl.errors import UserError
from barlowctl.generators import own_generator
from barlowctl.model import estimate_memory, without_data
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe

SMALLEST_BATCH = 16
_PREFIX, _LEFT_AFTER = "barlowctl-bench-", 24 * 3600.0
"""How a benchmark's folder begins, and the seconds after which an empty one belongs to none that still runs."""


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for the block. Empty ones that benchmarks left which were killed are removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is not empty, somebody else's, or gone
            if time.time() - left.stat().st_mtime > _LEFT_AFTER:
                left.rmdir()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
        yield Path(folder)


def check_step(recipe: Recipe, device: torch.device) -> None:
    """Refuse a step that this machine, whose processor computes it, cannot hold.

    Raises:
        UserError: with a batch that fits, or a smaller network.
    """
    try:
        _check_batch(recipe, device)
    except UserError as error:
        batch = recipe.train.batch_size // 2
        while batch >= SMALLEST_BATCH and not _fits(recipe, device, batch):
            batch //= 4
        smaller = "--backbone resnet18 --size 32 --batch 16 --widths 512x2"
        error.next = f"--batch {batch}" if batch >= SMALLEST_BATCH else smaller
        raise


def check_loss(contest: Contest, n: int, d: int) -> None:
    """Refuse a size whose inputs and gradients, or the published formulation's pass, this machine cannot hold.

    Raises:
        UserError: with sizes that are usual.
    """
    try:
        needed = _bytes_of_loss(contest, n, d)
    except Exception as error:
        if memory.ran_out(error) is None:  # else the measurement will say what is wrong
            return
        takes = "takes more memory than can be counted"
    else:
        if needed <= memory.total():
            return
        takes = f"takes {memory.size(needed)} or more"
    usual = "x".join(map(str, contest.sizes[0]))
    raise UserError(
        f"--sizes has '{n}x{d}': a pass of {contest.title} {takes}, and this machine has "
        f"{memory.size(memory.total())} of memory",
        next=f"--sizes {usual}",
    )


def _check_batch(recipe: Recipe, device: torch.device) -> None:
    if device.type != "cpu":  # a GPU says by itself that it is full
        return
    with without_data():
        method = build_method(recipe)
    images = recipe.train.batch_size * 10 + recipe.data.holdout
    check_memory(resolve(recipe, device, 1, images), method, recipe.train.precision)


def _fits(recipe: Recipe, device: torch.device, batch: int) -> bool:
    try:
        _check_batch(load.override(recipe, [f"train.batch_size={batch}"]), device)
    except UserError:
        return False
    return True


class _Published(nn.Module):
    """The published formulation's loss as a module."""

    def __init__(self, contest: Contest) -> None:
        super().__init__()
        self.loss = contest.rows["authors"]()

    def forward(self, *inputs: Tensor) -> Tensor:
        value: Tensor = self.loss(*inputs)
        return value


def _bytes_of_loss(contest: Contest, n: int, d: int) -> float:
    """What one pass takes for sure: its inputs, their gradients, and half of what is saved for the backward pass."""
    with own_generator(), torch.device("meta"):
        inputs = contest.inputs(n, d, torch.device("meta"))
    sizes = [tensor.numel() * tensor.element_size() for tensor in inputs]
    taken = sum(sizes) + sum(sizes[: contest.learned])
    if taken > memory.total():
        return taken
    with own_generator():
        saved = estimate_memory(
            _Published(contest), lambda: contest.inputs(n, d, torch.device("cpu")), optimizer_slots=0
        ).activations
    return max(taken, SAVED_AT_LEAST * saved)
