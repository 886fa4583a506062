"""One budget for variants of different cost: so many steps, images or CPU-seconds of training for each of them.

A budget sets a variant's `train.epochs`, and what else goes with the training's length in proportion. CPU-seconds are
of this machine: what a step of a variant takes is timed once and kept in the study's directory, so that a study goes on
as it began.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

from barlowctl.assemble.job import prepare
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.optimizers import optimizer_of
from barlowctl.assemble.resolve import steps_per_epoch
from barlowctl.assemble.synthetic_steps import SyntheticSteps
from barlowctl.errors import UserError, did_you_mean
from barlowctl.files import write_text
from barlowctl.generators import own_generator
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe
from barlowctl.study.directory import made_and_locked, not_writable, read_record
from barlowctl.study.length import at_length
from barlowctl.study.study import Study
from barlowctl.study.variant import Variant, refused

Unit = Literal["steps", "images", "cpu-seconds"]
EXAMPLE = "--budget images=200000"
TIMED_STEPS, UNTIMED_STEPS = 9, 3


@dataclass(frozen=True)
class Budget:
    """What each variant is trained for. images: of the training set, each with all its views."""

    unit: Unit
    amount: float

    def __str__(self) -> str:
        return f"{self.amount:,.10g} {self.unit}"


def parse(text: str) -> Budget:
    """A budget as it is typed: UNIT=NUMBER.

    Raises:
        UserError: it is not.
    """
    unit, _, number = text.partition("=")
    allowed = "steps=N, images=N or cpu-seconds=N of training for each variant"
    if unit not in get_args(Unit):
        raise UserError(f"--budget '{text}'{did_you_mean(unit, get_args(Unit))}", allowed=allowed, next=EXAMPLE)
    try:
        amount = float(number)
    except ValueError:
        amount = math.nan
    if not 1 <= amount <= 1e12:
        raise UserError(f"--budget '{text}': '{number}' is no number of {unit}", allowed=allowed, next=EXAMPLE)
    return Budget(unit, amount)  # type: ignore[arg-type]


def limit(
    study: Study,
    base: Recipe,
    budget: Budget,
    trained_on: Callable[[Recipe], int],
    cost: Callable[[Recipe], float],
    *,
    without: Sequence[str] = (),
    leaves_out: bool = False,
) -> Study:
    """The study with every variant as long as the budget says.

    Args:
        trained_on: how many images of the training set a recipe is. cost: CPU-seconds of a step of a recipe; asked only
            for a budget of them.
        without: variants that are left out already. leaves_out: so are those that cannot be trained so.

    Raises:
        UserError: variants that cannot be, with what leaves all of them out, or a budget of less than one step.
    """
    limited: list[Variant] = []
    wrong: dict[str, str] = {}
    for variant in study.variants:
        recipe = variant.recipe(base, study.source)
        try:
            images = trained_on(recipe)
            steps_an_epoch = steps_per_epoch(recipe, images)
        except UserError as error:
            wrong[variant.name] = f"{variant.title}: {error.message}"
            continue
        batch = recipe.train.batch_size
        of_a_step = min(images, steps_an_epoch * batch) / steps_an_epoch  # the last of an epoch may have fewer
        steps = _steps(variant, recipe, budget, of_a_step, cost)
        if steps >= 1:
            changes = at_length(recipe, steps / steps_an_epoch)
            limited.append(replace(variant, overrides=(*variant.overrides, *changes)))
        elif not leaves_out:
            raise UserError(
                f"a budget of {budget} is less than one step of '{variant.name}', of {min(batch, images)} images",
                next=EXAMPLE,
            )
    if wrong and not leaves_out:
        raise refused(wrong, without, {variant.name for variant in study.variants})
    note = f"every variant is trained for {budget}" + (f"; {study.note}" if study.note else "")
    return replace(study, variants=tuple(limited), note=note)


def _steps(variant: Variant, recipe: Recipe, budget: Budget, images: float, cost: Callable[[Recipe], float]) -> int:
    """Steps that the budget holds; `images`: of a step, on average."""
    match budget.unit:
        case "steps":
            return round(budget.amount)
        case "images":
            return round(budget.amount / images)
        case "cpu-seconds":
            return math.floor(budget.amount / _cost_of(variant, recipe, cost) + 1e-9)


def _cost_of(variant: Variant, recipe: Recipe, cost: Callable[[Recipe], float]) -> float:
    try:
        return cost(recipe)
    except UserError as error:
        raise UserError(f"{variant.title}: {error.message}", allowed=error.allowed, next=error.next) from error


class StepCosts:
    """CPU-seconds of a step of each recipe on this machine: timed when they are first asked for, and kept in a file."""

    def __init__(self, out: Path, runtime: Runtime, data: str | None, say: Callable[[str], None]) -> None:
        self.file, self.runtime, self.data, self.say = out / "cpu-seconds.json", runtime, data, say

    def __call__(self, recipe: Recipe) -> float:
        """See `time_step`.

        Raises:
            UserError: what would be refused when the recipe is trained; the file cannot be read or written.
        """
        key = load.digest(load.override(recipe, ["seed=0"]))
        out = self.file.parent
        try:
            with made_and_locked(out, ".cpu-seconds.lock"):
                known = dict(read_record(self.file)) if self.file.is_file() else {}
                if key not in known:
                    seconds = time_step(recipe, self.runtime, self.data)
                    self.say(f"{recipe.objective.name}: {seconds:.3g} CPU-seconds a step")
                    known[key] = seconds
                    write_text(self.file, json.dumps(known, indent=2) + "\n")
        except OSError as error:
            raise not_writable(out, error) from error
        return float(known[key])


def time_step(recipe: Recipe, runtime: Runtime, data: str | None) -> float:
    """CPU-seconds of a training step and of loading its batch: of steps on random pixels and of the first batches."""
    job = prepare(recipe, runtime, data)
    with own_generator(device=job.device):
        optimizer = optimizer_of(recipe, job.method, job.resolved.rates)
        batch = job.resolved.batch
        steps = SyntheticSteps(job.resolved.preprocessing, job.method, job.device, batch, optimizer, sizes=recipe.sizes)
        spent = [steps.cpu_seconds(job.precision.used) for _ in range(UNTIMED_STEPS + TIMED_STEPS)]
    with job.loader as loader:
        batches = loader.epoch(0)
        next(batches)  # which compiles
        start, count = time.process_time(), sum(1 for _ in islice(batches, TIMED_STEPS))
        loading = (time.process_time() - start) / max(count, 1)
        batches.close()
    return statistics.median(spent[UNTIMED_STEPS:]) + loading
