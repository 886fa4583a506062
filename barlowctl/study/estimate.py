"""What a study will cost, from steps that are timed now and cells that are finished already."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from barlowctl.assemble.data import (
    ImageSet,
    build_loader,
    choose_loader,
    evaluation_spec,
    open_recipe_images,
    training_loader,
)
from barlowctl.assemble.holdout import count
from barlowctl.assemble.labelled import check_labelled
from barlowctl.assemble.machine import Runtime, choose_device, set_threads
from barlowctl.assemble.model import build_method, move_to_device
from barlowctl.assemble.optimizers import optimizer_of
from barlowctl.assemble.precision import of_run
from barlowctl.assemble.resolve import Resolved, resolve
from barlowctl.assemble.synthetic_steps import StepTime, SyntheticSteps, batch_of_pixels, operations
from barlowctl.cores import usable_cores
from barlowctl.data.views.spec import Spec
from barlowctl.datasets import DATASETS, training_images
from barlowctl.errors import UserError
from barlowctl.eval import knn, linear
from barlowctl.generators import own_generator
from barlowctl.model import feature_width
from barlowctl.recipe.schema import Recipe
from barlowctl.study.directory import Cell
from barlowctl.study.variant import refused

LONGEST_STEP = 4.0
"""Seconds that a step may be expected to take and still be timed; dearer ones are scaled from the base recipe's."""
QUICK = {"cpu": 16 * 224**2, "cuda": 256 * 224**2}
"""Pixels of a view over the batch of the base recipe's first timed step: a look at what steps cost here."""
FULL = {"cpu": 64 * 224**2, "cuda": 256 * 224**2}
"""At most so many has a batch that is timed whole."""
ENOUGH = 1.0  # seconds of timed steps after which four or more are enough
ROWS = 2000  # images of the timed parts of an evaluation


@dataclass(frozen=True)
class Cost:
    """Seconds of one cell, and where they come from."""

    train: float
    measure: float
    source: str

    @property
    def total(self) -> float:
        return self.train + self.measure


@dataclass(frozen=True)
class Estimate:
    """costs: folder of the cell -> its cost. cpu_share: CPU time per wall time while it was timed.

    On a machine with other work the wall time is what it would be with as much of it; the CPU time is its own.
    """

    costs: dict[str, Cost]
    cpu_share: float

    def of(self, cell: Cell) -> Cost:
        return self.costs[cell.path.parent.name]


def estimate(
    base: Recipe, cells: Sequence[Cell], runtime: Runtime, data: str | None, without: Sequence[str] = ()
) -> Estimate:
    """The cost of a cell of each recipe among `cells`; `without` are variants that are left out already.

    Finished cells are their own estimate. Of the others a step is timed at the recipe's batch, on random pixels, and
    the loader beside it; a step that would take longer than `LONGEST_STEP` is scaled from the base recipe's by its
    count of multiply-adds instead.

    Raises:
        UserError: what would be refused when the study starts; data that is missing and of unknown size.
    """
    device = choose_device(runtime.device)
    threads = set_threads(runtime, base.train.cpu_threads)
    source, images, tests = _sizes(base, data)
    loader = None if source is None else choose_loader(source, runtime.loader)
    usable, held = count(source, images, base)
    own = resolve(base, device, threads, usable, loader, held=held)
    resolved = _resolve_variants(cells, own, lambda recipe: count(source, images, recipe), without)
    stopwatch = _Stopwatch(own, runtime, source)
    wall, cpu = time.perf_counter(), time.process_time()
    evaluation = stopwatch.evaluation(images, tests)
    costs: dict[str, Cost] = {}
    timed: dict[str, tuple[float, str]] = {}
    for cell in cells:
        key = cell.path.parent.name
        if key in costs:
            continue
        if before := _recorded([other for other in cells if other.path.parent == cell.path.parent]):
            costs[key] = before
            continue
        if (same_cost := str(_cost_relevant(cell.recipe))) not in timed:
            timed[same_cost] = stopwatch.step(resolved[key])
        seconds, source_of_it = timed[same_cost]
        batches = resolved[key].images_seen / cell.recipe.train.batch_size  # an epoch's last may be part of one
        costs[key] = Cost(seconds * batches, evaluation, source_of_it)
    return Estimate(costs, (time.process_time() - cpu) / (time.perf_counter() - wall))


def _resolve_variants(
    cells: Sequence[Cell], base: Resolved, counts: Callable[[Recipe], tuple[int, int]], without: Sequence[str]
) -> dict[str, Resolved]:
    """Folder of the cell -> its recipe, resolved as the base recipe is; `counts` as `holdout.count`.

    Raises:
        UserError: variants cannot be trained on so many images; with what leaves all of them out.
    """
    resolved: dict[str, Resolved] = {}
    wrong: dict[str, str] = {}
    for cell in cells:
        key = cell.path.parent.name
        if key in resolved:
            continue
        try:
            usable, held = counts(cell.recipe)
            resolved[key] = resolve(cell.recipe, base.device, base.threads, usable, base.loader, held=held)
        except UserError as error:
            wrong.setdefault(cell.variant.name, f"{cell.variant.title}: {error.message}")
    if wrong:
        raise refused(wrong, without, {cell.variant.name for cell in cells})
    return resolved


def _cost_relevant(recipe: Recipe) -> dict[str, Any]:
    """What a step's time depends on: recipes that agree in it are timed once."""
    parts = {"model": recipe.model, "optimizer": recipe.optimizer.name, "batch": recipe.train.batch_size}
    loss = {key: value for key, value in recipe.objective.model_dump().items() if not isinstance(value, float)}
    return {**{key: str(value) for key, value in parts.items()}, "loss": loss, "views": recipe.sizes}


def _sizes(base: Recipe, data: str | None) -> tuple[ImageSet | None, int, int]:
    """The training images where they are here, their number, and that of the test images."""
    try:
        source = open_recipe_images(base, "train", data)
    except UserError:
        size = training_images(base.data.dataset)
        if data is not None or size is None:
            raise
        return None, size, DATASETS[base.data.dataset].held_out
    labelled = check_labelled(source, open_recipe_images(base, "test", data))
    return source, source.num_samples, labelled.test.num_samples


def _recorded(cells: Sequence[Cell]) -> Cost | None:
    costs = [record["seconds"] for cell in cells if (record := cell.record) and record.get("seconds")]
    if not costs:
        return None
    train, rest = (statistics.fmean(seconds[key] for seconds in costs) for key in ("train", "measure"))
    return Cost(train, rest, f"{len(costs)} finished cell{'s' * (len(costs) > 1)} of it")


class _Stopwatch:
    """Times steps of recipes on a device, the base recipe's first."""

    def __init__(self, own: Resolved, runtime: Runtime, source: ImageSet | None) -> None:
        self.own, self.base, self.runtime, self.device, self.source = own, own.recipe, runtime, own.device, source
        self.precisions: dict[str, str] = {}  # requested -> computed in
        self.beside = own.device.type == "cuda" or usable_cores() > own.threads  # loading while the step is computed
        self.loading = self._load()  # seconds an image
        self.first: StepTime | None = None  # of the base recipe
        self.counted: dict[str, float] = {}  # multiply-adds of a step
        self.base_operations = self._operations(self.base)

    def step(self, resolved: Resolved) -> tuple[float, str]:
        """Seconds of a step, and how they came about."""
        recipe = resolved.recipe
        quick = self._batch(self.base, QUICK)
        self.first = self.first or self._time(self.own, quick)
        expected = self.first.of(self.base.train.batch_size / quick * self._operations(recipe) / self.base_operations)
        batch = recipe.train.batch_size
        if expected <= LONGEST_STEP and self._batch(recipe, FULL) == batch:
            compute, source = self._time(resolved, batch).of(1), "steps timed at its batch"
        else:
            compute, source = expected, "scaled from the base recipe's step by multiply-adds"
        load = self.loading * batch
        return (max(compute, load) if self.beside else compute + load), source

    def _operations(self, recipe: Recipe) -> float:
        """`operations`, counted once for all recipes that differ in what changes none of them."""
        key = repr((recipe.sizes, recipe.model, recipe.objective, recipe.data, recipe.train))
        self.counted[key] = self.counted.get(key) or operations(recipe)
        return self.counted[key]

    def _batch(self, recipe: Recipe, pixels: dict[str, int]) -> int:
        """The batch, or a smaller one where activations of the whole would be too many."""
        return batch_of_pixels(recipe, pixels[self.device.type])

    def _time(self, resolved: Resolved, batch: int) -> StepTime:
        """The medians of a few steps after the first."""
        recipe = resolved.recipe
        method = move_to_device(build_method(recipe), recipe, self.device)
        optimizer = optimizer_of(recipe, method, resolved.rates)
        times: list[StepTime] = []
        with own_generator(device=self.device):
            synthetic_steps = SyntheticSteps(
                resolved.preprocessing, method, self.device, batch, optimizer, sizes=recipe.sizes
            )
            while len(times) < 4 or (sum(step.of(1) for step in times) < ENOUGH and len(times) < 12):
                times.append(synthetic_steps.take(self._precision(recipe)))
                if times[-1].of(1) > LONGEST_STEP and len(times) > 1:
                    break
        return StepTime(*map(statistics.median, zip(*times[1:], strict=True)))

    def _precision(self, recipe: Recipe) -> str:
        """What is computed in, chosen once for all recipes that ask for the same."""
        requested = recipe.train.precision
        if requested not in self.precisions:
            self.precisions[requested] = of_run(recipe, self.device).used
        return self.precisions[requested]

    def _load(self) -> float:
        """Seconds an image of the training loader, 0 where the images are not here."""
        if self.source is None:
            return 0.0
        count = min(self.source.num_samples, 2 * ROWS, 16 * self.base.train.batch_size)
        rows: dict[str, Any] = {
            "batch_size": min(self.base.train.batch_size, count // 2),
            "subset": np.arange(count),
            "choice": self.own.loader,
        }
        with training_loader(self.source, self.base, self.runtime, self.device, shuffle=False, **rows) as loader:
            return _seconds_an_image(loader)

    def evaluation(self, images: int, tests: int) -> float:
        """Seconds of kNN and linear evaluation of a cell: features of some images, and both on random features."""
        backbone = build_method(self.base).backbone.to(self.device).eval()
        preprocessing = self.own.preprocessing
        count = max(2, min(64, QUICK[self.device.type] // preprocessing.crop**2))
        pixels = torch.zeros(
            (count, preprocessing.channels, preprocessing.crop, preprocessing.crop), device=self.device
        )
        with torch.inference_mode():
            backbone(pixels)
            start = time.perf_counter()
            for _ in range(3):
                backbone(pixels)
            _wait(self.device)
            forward = (time.perf_counter() - start) / (3 * len(pixels))
        load = 0.0
        if self.source is not None:
            rows: dict[str, Any] = {
                "batch_size": 100,
                "subset": np.arange(min(ROWS, self.source.num_samples)),
                "choice": self.own.loader,
            }
            specs: list[Spec] = [evaluation_spec(preprocessing)]
            with build_loader(
                self.source, specs, preprocessing.channels, self.runtime, self.device, shuffle=False, **rows
            ) as loader:
                load = _seconds_an_image(loader)
        extraction = (max(forward, load) if self.beside else forward + load) * (images + tests)
        return extraction + self._classifiers(feature_width(backbone), images, tests)

    def _classifiers(self, width: int, images: int, tests: int) -> float:
        classes = 10 if self.source is None else max(2, int(self.source.labels.max()) + 1)
        rows, queries = max(min(ROWS, images), 2 * classes), min(500, tests)
        generator = torch.Generator().manual_seed(0)
        bank, query_features = (torch.randn(count, width, generator=generator) for count in (rows, queries))
        labels = torch.arange(rows) % classes
        start = time.perf_counter()
        linear.linear_probe(
            bank, labels, query_features, labels[:queries], num_classes=classes, seed=0, epochs=6, device=self.device
        )
        fit = (time.perf_counter() - start) * 5 * images / rows
        start = time.perf_counter()
        knn.knn_predict(bank, labels, query_features, num_classes=classes)
        return fit + (time.perf_counter() - start) * images / rows * tests / queries


def _seconds_an_image(loader: Any) -> float:
    """Of a loader's epoch after its first batch, which compiles."""
    count, start = 0, 0.0
    for number, batch in enumerate(loader.epoch(0)):
        if number == 0:
            start = time.perf_counter()
        else:
            count += len(batch.views[0])
    return (time.perf_counter() - start) / max(count, 1)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
