"""The training step against the alternatives: which rows there are, and their summaries.

All rows have the same backbone, projector, weights and images, and compute the same loss, which is checked before
anything is timed. "As they come" is another implementation in its own default precision, in torch's default memory
format, with the optimizer of its documentation's example; "-same" is that one in our precision and memory format.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from barlowctl import processor
from barlowctl.amounts import counted
from barlowctl.assemble.model import preprocessing_of
from barlowctl.assemble.synthetic_steps import training_flops
from barlowctl.bench.benchmark_process import BenchmarkProcess, Measured, measure_in_turns
from barlowctl.bench.compared import check_method
from barlowctl.bench.photographs import jpegs_and_packed
from barlowctl.bench.room import check_step, temporary_folder
from barlowctl.bench.step_ablation import choose_ablation
from barlowctl.bench.step_lightly import EXAMPLES
from barlowctl.bench.step_others import PACKAGES, is_installed
from barlowctl.bench.step_settings import CHECKED, OURS, Images, StepSettings
from barlowctl.bench.step_summary import against_of, summarize, summarize_peak
from barlowctl.cores import usable_cores
from barlowctl.errors import UserError, did_you_mean, instead
from barlowctl.recipe import load
from barlowctl.recipe.objectives import DEFAULT, only_barlow_twins
from barlowctl.recipe.schema import Recipe

KINDS = (OURS, "authors", "lightly", "solo-learn", "stable-pretraining")
ROWS = (OURS, *(f"{kind}{end}" for kind in KINDS[1:] for end in ("", "-same")))
ON_A_GPU = {"authors": "fp16", "lightly": "fp32", "solo-learn": "fp16", "stable-pretraining": "fp16"}
"""Precision as they come: the authors' code, lightly's example (which sets none), solo-learn's script for ImageNet-100,
stable-pretraining's example. On a CPU fp32 is what all of them compute in."""
PEAK = "peak "
STEP_PROCESS = "barlowctl.bench.step_process"
TWO_VIEWS = ("views.small.count=0",)
AS_OTHERS: Mapping[str, tuple[str, ...]] = {
    "barlow-twins": ("objective.scale=1.0",),
    "vicreg": ("objective.scale=1.0",),
    "simclr": ("objective.scale=1.0",),
    "moco": ("objective.symmetric=false", "objective.batch_norm_groups=0", "data.drop_last=true"),
    "moco-v2": ("objective.symmetric=false", "objective.batch_norm_groups=0", "data.drop_last=true"),
    "byol": (),
    "simsiam": ("objective.stop_gradient=true", "objective.predictor=true"),
    "swav": ("objective.queue=0", "objective.freeze_prototypes_epochs=0.0"),
}
"""What a recipe of each method is given, so that its step is the one that others have. All batches here are whole."""
ROUNDING = 1e-3
"""Relative difference of two float32 losses that is rounding."""


@dataclass(frozen=True)
class Row:
    """One row of the table: its name, and the settings that its process gets."""

    name: str
    settings: StepSettings


def base_recipe(recipe: Recipe) -> Recipe:
    """A recipe as all rows have it: two views, the loss is not scaled, and images are looked at in one size.

    Raises:
        UserError: a method that no other row has.
    """
    method, size = check_method(recipe.objective.name), recipe.views.size
    return load.override(recipe, [*TWO_VIEWS, *AS_OTHERS[method], f"eval.crop={size}", f"eval.resize={size}"])


def check_comparison(recipe: Recipe, ablation: bool, loading: bool) -> None:
    """Refuse an ablation of another method, and to load it, or images that no JPEG holds.

    Raises:
        UserError: another method than Barlow Twins; images neither grey nor in colour that are to be loaded.
    """
    if ablation or loading:
        only_barlow_twins(recipe.objective, "--ladder" if ablation else "--loading")
    if loading and (channels := preprocessing_of(recipe).channels) not in (1, 3):
        raise UserError(
            f"--loading reads JPEGs, and this recipe's images have {counted(channels, 'channel')}",
            allowed="1 or 3",
            next="without --loading",
        )


def choose_rows(names: Sequence[str], method: str = DEFAULT) -> tuple[list[str], dict[str, str]]:
    """The rows to run, in the order of `ROWS`, and those left out with the reason. No names: all.

    Raises:
        UserError: an unknown name, or one asked for by name whose library is missing, or lacks the method.
    """
    here = [name for name in ROWS if is_installed(name.removesuffix("-same"))]
    for name in names:
        if name not in ROWS:
            raise UserError(
                f"there is no row '{name}'{did_you_mean(name, ROWS)}",
                allowed=", ".join(ROWS),
                next=instead("--rows", name, here),
            )
    chosen, left_out = [], {}
    for name in ROWS:
        kind = name.removesuffix("-same")
        if names and name not in names:
            continue
        if method in EXAMPLES and kind not in (OURS, "lightly"):
            left_out[name] = f"of its steps only that of Barlow Twins is written out here, not {method}'s"
        elif is_installed(kind):
            chosen.append(name)
        elif names:
            raise UserError(
                f"the row '{name}' needs {PACKAGES[kind]}, which is not installed",
                allowed=f"{', '.join(here)}; others once pip has installed what they need",
                next="without --rows",
            )
        else:
            left_out[name] = f"{PACKAGES[kind]} is not installed"
    if not chosen:
        raise UserError(
            f"of the rows {', '.join(left_out)} none has {method}",
            allowed="ours, lightly, lightly-same",
            next=f"--rows {','.join(name for name in (OURS, 'lightly') if name in here)}",
        )
    return chosen, left_out


def rows_of(names: Sequence[str], common: StepSettings) -> list[Row]:
    """Each row with its settings; `common` is ours."""
    rows = []
    for name in names:
        kind = name.removesuffix("-same")
        settings = replace(common, kind=kind, optimizer="own")
        if kind != OURS:
            as_they_come = not name.endswith("-same")
            if as_they_come:
                precision = ON_A_GPU[kind] if common.device.type == "cuda" else "fp32"
                recipe = load.override(common.recipe, [f"train.precision={precision}", "train.channels_last=false"])
                settings = replace(settings, recipe=recipe)
            settings = replace(settings, optimizer="documented" if as_they_come else _same(common.recipe))
        rows.append(Row(name, settings))
    return rows


def _same(recipe: Recipe) -> str:
    """The optimizer of a row at our settings: LARS, and of lightly SGD where ours is."""
    return "SGD" if recipe.objective.name in EXAMPLES and recipe.optimizer.name == "sgd" else "LARS"


def compare(
    recipe: Recipe,
    names: Sequence[str],
    *,
    device: torch.device,
    ablation: bool = False,
    loading: bool = False,
    images: Path | None = None,
    count: int = 2048,
    workers: int = 1,
    rounds: int = 6,
    steps: int = 10,
    warmup: int = 3,
    threads: int = 1,
    minutes: float = math.inf,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Run the rows, of the comparison or of the ablation, in turns; ready for JSON.

    Args:
        recipe: network, batch, size, precision and memory format of ours.
        names: of rows; none: all that are installed.
        loading: each with its own loader, from JPEGs: `count` drawn from those below `images`; None: made.
        minutes: after these no other round begins.

    Raises:
        UserError: an unknown name, a network that cannot be, rows whose losses differ, or all rows fail. One that fails
            (memory that runs out, a broken library) is left out with the reason, and the others go on.
    """
    recipe = base_recipe(recipe)
    check_comparison(recipe, ablation, loading)
    chosen, without = ([], dict[str, str]()) if ablation else choose_rows(names, recipe.objective.name)
    check_step(recipe, device)
    flops = training_flops(recipe)
    common = StepSettings(OURS, recipe, device, threads, warmup, steps)
    with temporary_folder() as folder:
        if loading:
            made = jpegs_and_packed(images, folder, count, usable_cores(), progress)
            common = replace(common, loading=Images(*made, workers))
        rows, left_out = ablation_of(common) if ablation else (rows_of(chosen, common), without)
        load_before, end = os.getloadavg()[0], time.monotonic() + 60 * minutes
        processes = [process_of(row) for row in (*rows, *peaks_of(rows))]
        measured = measure_in_turns(
            processes, rounds, progress, check=check_losses, over=lambda: time.monotonic() > end
        )
    left_out |= {row.name: row.failed for row in measured if row.failed is not None}
    complete = [row for row in measured if row.failed is None]
    peaks = {row.name.removeprefix(PEAK): summarize_peak(row) for row in complete if row.name.startswith(PEAK)}
    steps_taken = [row for row in complete if not row.name.startswith(PEAK)]
    if not steps_taken:
        raise UserError(f"no row could be measured; '{measured[0].name}': {measured[0].failed}", next="--batch 16")
    settings, against = {row.name: row.settings for row in rows}, against_of(steps_taken, ablation)
    return {
        "ladder" if ablation else "rows": summarize(steps_taken, settings, flops=flops, peaks=peaks, against=against),
        "left_out": left_out,
        "peak": peaks,
        "step": describe(common, flops),
        "machine": machine(device, threads, load_before),
    }


def ablation_of(common: StepSettings) -> tuple[list[Row], dict[str, str]]:
    """The rows of the ablation of our settings that can run here, and the others with the reason."""
    ablation, left_out = choose_ablation(common.recipe, common.device)
    rows = [
        Row(
            row.name,
            replace(common, recipe=row.recipe(common.recipe), optimizer=row.optimizer, **row.of_a_cpu()),
        )
        for row in ablation
    ]
    return rows, left_out


def peaks_of(rows: Sequence[Row]) -> list[Row]:
    """What the machine can do at most, in every precision that a row has."""
    by_precision = {row.settings.recipe.train.precision: row.settings for row in rows}
    return [
        Row(f"{PEAK}{precision}", replace(settings, kind="peak", loading=None))
        for precision, settings in sorted(by_precision.items())
    ]


def process_of(row: Row) -> BenchmarkProcess:
    """The row's process."""
    settings = row.settings
    polls = settings.loading is not None and settings.device.type == "cpu"
    return BenchmarkProcess(row.name, STEP_PROCESS, settings.to_json(), optional=True, polls=polls)


def describe(common: StepSettings, flops: float) -> dict[str, Any]:
    """What a step is, of ours."""
    recipe, loading = common.recipe, common.loading
    return {
        "recipe": recipe.name,
        "method": recipe.objective.name,
        "backbone": recipe.model.backbone,
        "projector": list(recipe.model.projector),
        "batch": recipe.train.batch_size,
        "size": recipe.views.size,
        "steps": common.steps,
        "warmup": common.warmup,
        "loading": loading is not None,
        "workers": loading.workers if loading else None,
        "model_gflops_per_image": round(flops / 1e9, 4),
    }


def check_losses(ready: Sequence[Measured]) -> None:
    """All rows computed the same loss of the same images with the same weights, to float32's rounding.

    stable-pretraining's standard deviation has N - 1 in its denominator, so that its C is (N - 1) / N of the others'.

    Raises:
        UserError: one of them differs.
    """
    rows = [row for row in ready if "loss" in row.ready]
    for row in rows[1:]:
        first, loss = rows[0].ready["loss"], row.ready["loss"]
        allowed = 4 / CHECKED if row.name.startswith("stable-pretraining") else ROUNDING
        if not math.isclose(first, loss, rel_tol=allowed):
            raise UserError(
                f"'{row.name}' computes another loss than '{rows[0].name}': {loss:.8g}, not {first:.8g}",
                next="leave it out with --rows",
            )


def machine(device: torch.device, threads: int, load_before: float) -> dict[str, Any]:
    """What was measured on."""
    return {
        "processor": processor.name(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cores": usable_cores(),
        "threads": threads,
        "load_before": round(load_before, 1),
        "torch": str(torch.__version__),
    }
