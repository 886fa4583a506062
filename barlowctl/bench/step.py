"""The training step against the alternatives: which rows there are, and what is said of each.

All rows have the same backbone, projector, weights and images, and compute the same loss, which is checked before
anything is timed. "As they come" is a rival in its own default precision, in torch's default memory format, with the
optimizer of its documentation's example; "-same" is the rival in our precision and memory format.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from barlowctl.assemble.trial import forward_flops
from barlowctl.bench.loader import processor
from barlowctl.bench.step_ladder import choose_rungs
from barlowctl.bench.step_rivals import PACKAGES, is_installed
from barlowctl.bench.step_settings import CHECKED, OURS, Images, StepSettings
from barlowctl.bench.step_summary import against_of, summarize, summarize_peak
from barlowctl.bench.turns import Measured, Turn, measure
from barlowctl.cores import usable_cores
from barlowctl.errors import UserError, did_you_mean
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe

KINDS = (OURS, "authors", "lightly", "solo-learn", "stable-pretraining")
ROWS = (OURS, *(f"{kind}{end}" for kind in KINDS[1:] for end in ("", "-same")))
ON_A_GPU = {"authors": "fp16", "lightly": "fp32", "solo-learn": "fp16", "stable-pretraining": "fp16"}
"""Precision as they come: the authors' code, lightly's example (which sets none), solo-learn's script for ImageNet-100,
stable-pretraining's example. On a CPU fp32 is what all of them compute in."""
PEAK = "peak "
CONTESTANT = "barlowctl.bench.contestant"
ROUNDING = 1e-3
"""Relative difference of two float32 losses that is rounding."""


@dataclass(frozen=True)
class Row:
    """A row or rung, and what its process is told."""

    name: str
    settings: StepSettings


def base_recipe(recipe: Recipe) -> Recipe:
    """A recipe as all rows have it: the loss is not scaled, and images are looked at in one size."""
    size = recipe.views.size
    return load.override(recipe, ["objective.scale=1.0", f"eval.crop={size}", f"eval.resize={size}"])


def choose_rows(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The rows to run, in the order of `ROWS`, and those left out with the reason. No names: all.

    Raises:
        UserError: an unknown name, or one asked for by name whose library is missing.
    """
    for name in names:
        if name not in ROWS:
            raise UserError(f"there is no row '{name}'{did_you_mean(name, ROWS)}", allowed=", ".join(ROWS))
    chosen, left_out = [], {}
    for name in ROWS:
        kind = name.removesuffix("-same")
        if names and name not in names:
            continue
        if is_installed(kind):
            chosen.append(name)
        elif names:
            raise UserError(f"the row '{name}' needs {PACKAGES[kind]}, which is not installed")
        else:
            left_out[name] = f"{PACKAGES[kind]} is not installed"
    return chosen, left_out


def rows_of(names: Sequence[str], common: StepSettings) -> list[Row]:
    """What each row is told; `common` is ours."""
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
            settings = replace(settings, optimizer="documented" if as_they_come else "LARS")
        rows.append(Row(name, settings))
    return rows


def compare(
    recipe: Recipe,
    names: Sequence[str],
    *,
    device: torch.device,
    ladder: bool = False,
    loading: bool = False,
    images: Path | None = None,
    count: int = 2048,
    workers: int = 1,
    rounds: int = 5,
    steps: int = 10,
    warmup: int = 3,
    threads: int = 1,
    minutes: float = math.inf,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Run the rows, or the rungs of the ladder, in turns; ready for JSON.

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
    flops = 6 * forward_flops(recipe, recipe.views.size)
    common = StepSettings(OURS, recipe, device, threads, warmup, steps)
    with tempfile.TemporaryDirectory(prefix="barlowctl-bench-") as place:
        if loading:
            common = replace(common, loading=make_images(images, Path(place), count, workers, progress))
        rows, left_out = ladder_of(common) if ladder else comparison_of(names, common)
        load_before, end = os.getloadavg()[0], time.monotonic() + 60 * minutes
        turns = [turn_of(row) for row in (*rows, *peaks_of(rows))]
        found = measure(turns, rounds, progress, check=check_losses, over=lambda: time.monotonic() > end)
    left_out |= {one.name: one.failed for one in found if one.failed is not None}
    there = [one for one in found if one.failed is None]
    peaks = {one.name.removeprefix(PEAK): summarize_peak(one) for one in there if one.name.startswith(PEAK)}
    taken = [one for one in there if not one.name.startswith(PEAK)]
    if not taken:
        name, reason = next(iter((one.name, one.failed) for one in found))
        raise UserError(f"no row could be measured; '{name}': {reason}", next="--batch 16")
    told = {row.name: row.settings for row in rows}
    return {
        "ladder" if ladder else "rows": summarize(
            taken, told, flops=flops, peaks=peaks, against=against_of(taken, ladder)
        ),
        "left_out": left_out,
        "peak": peaks,
        "step": describe(common, flops),
        "machine": machine(device, threads, load_before),
    }


def comparison_of(names: Sequence[str], common: StepSettings) -> tuple[list[Row], dict[str, str]]:
    """The rows of those names, and those left out with the reason."""
    chosen, left_out = choose_rows(names)
    return rows_of(chosen, common), left_out


def ladder_of(common: StepSettings) -> tuple[list[Row], dict[str, str]]:
    """The rungs that can be here, and the others with the reason."""
    rungs, left_out = choose_rungs(common.recipe, common.device)
    return [
        Row(rung.name, replace(common, recipe=rung.recipe(common.recipe), optimizer=rung.optimizer)) for rung in rungs
    ], left_out


def peaks_of(rows: Sequence[Row]) -> list[Row]:
    """What the machine can do at most, in every precision that a row has."""
    by_precision = {row.settings.recipe.train.precision: row.settings for row in rows}
    return [
        Row(f"{PEAK}{precision}", replace(settings, kind="peak", loading=None))
        for precision, settings in sorted(by_precision.items())
    ]


def turn_of(row: Row) -> Turn:
    """The row's process."""
    told = row.settings
    polls = told.loading is not None and told.device.type == "cpu"
    return Turn(row.name, CONTESTANT, told.to_json(), optional=True, polls=polls)


def describe(common: StepSettings, flops: float) -> dict[str, Any]:
    """What a step is, of ours."""
    recipe, loading = common.recipe, common.loading
    return {
        "recipe": recipe.name,
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


def make_images(given: Path | None, place: Path, count: int, workers: int, progress: Callable[[str], None]) -> Images:
    """JPEGs in class folders, and packed."""
    from barlowctl.bench.photographs import sample_photographs, write_photographs
    from barlowctl.data.beton.pack import pack
    from barlowctl.data.sources import open_source

    folder, packed = place / "images", place / "images.beton"
    if given is not None:
        progress(f"drawing {count} of the JPEGs in {given}")
        sample_photographs(given, folder, count)
    else:
        progress(f"making {count} JPEGs")
        write_photographs(folder, count)
    pack(open_source(folder), packed, workers=usable_cores())
    return Images(folder, packed, workers)


def check_losses(ready: Sequence[Measured]) -> None:
    """All rows computed the same loss of the same images with the same weights, to float32's rounding.

    stable-pretraining's standard deviation has N - 1 in its denominator, so that its C is (N - 1) / N of the others'.

    Raises:
        UserError: one of them differs.
    """
    rows = [one for one in ready if "loss" in one.ready]
    for one in rows[1:]:
        first, loss = rows[0].ready["loss"], one.ready["loss"]
        allowed = 4 / CHECKED if one.name.startswith("stable-pretraining") else ROUNDING
        if not math.isclose(first, loss, rel_tol=allowed):
            raise UserError(
                f"'{one.name}' computes another loss than '{rows[0].name}': {loss:.8g}, not {first:.8g}",
                next="leave it out with --rows",
            )


def machine(device: torch.device, threads: int, load_before: float) -> dict[str, Any]:
    """What was measured on."""
    return {
        "processor": processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cores": usable_cores(),
        "threads": threads,
        "load_before": round(load_before, 1),
        "torch": str(torch.__version__),
    }
