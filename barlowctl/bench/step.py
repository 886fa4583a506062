"""The training step against the alternatives: which rows there are, and what is said of each.

All rows have the same backbone, projector, weights and images, and compute the same loss, which is checked before
anything is timed. "As they come" is a rival in its own default precision, in torch's default memory format, with the
optimizer of its documentation's example; "-same" is the rival in our precision and memory format.
"""

from __future__ import annotations

import math
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from barlowctl.assemble.machine import cores
from barlowctl.assemble.trial import forward_flops
from barlowctl.bench.loader import processor
from barlowctl.bench.step_ladder import LADDER, choose_rungs, standing_on
from barlowctl.bench.step_rivals import PACKAGES, is_installed
from barlowctl.bench.step_settings import CHECKED, Images, StepSettings
from barlowctl.bench.turns import Measured, Turn, measure
from barlowctl.errors import UserError, did_you_mean
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe

OURS = "ours"
KINDS = (OURS, "authors", "lightly", "solo-learn", "stable-pretraining")
ROWS = (OURS, *(f"{kind}{end}" for kind in KINDS[1:] for end in ("", "-same")))
ON_A_GPU = {"authors": "fp16", "lightly": "fp32", "solo-learn": "fp16", "stable-pretraining": "fp16"}
"""Precision as they come: the authors' code, lightly's example (which sets none), solo-learn's script for ImageNet-100,
stable-pretraining's example. On a CPU fp32 is what all of them compute in."""
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
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Run the rows, or the rungs of the ladder, in turns; ready for JSON.

    Args:
        recipe: network, batch, size, precision and memory format of ours.
        names: of rows; none: all that are installed.
        loading: each with its own loader, from JPEGs: `count` drawn from those below `images`; None: made.

    Raises:
        UserError: an unknown name, a network that cannot be, rows whose losses differ, or a row that was asked for by
            name and fails. Others that fail are left out.
    """
    recipe = base_recipe(recipe)
    flops = 6 * forward_flops(recipe)
    common = StepSettings(OURS, recipe, device, threads, warmup, steps)
    with tempfile.TemporaryDirectory(prefix="barlowctl-bench-") as place:
        if loading:
            common = replace(common, loading=make_images(images, Path(place), count, workers, progress))
        if ladder:
            rungs, left_out = choose_rungs(recipe, device)
            rows = [
                Row(rung.name, replace(common, recipe=rung.recipe(recipe), optimizer=rung.optimizer)) for rung in rungs
            ]
        else:
            chosen, left_out = choose_rows(names)
            rows = rows_of(chosen, common)
        peaks = [
            Row(f"peak {precision}", replace(common, kind="peak", recipe=_in(recipe, precision), loading=None))
            for precision in sorted({row.settings.recipe.train.precision for row in rows})
        ]
        load_before = os.getloadavg()[0]
        named = set(names) - {OURS} if not ladder else set()
        turns = [
            Turn(
                row.name,
                CONTESTANT,
                row.settings.to_json(),
                optional=ladder or (row.name != OURS and row.name not in named and row.settings.kind != "peak"),
                polls=row.settings.loading is not None and device.type == "cpu",
            )
            for row in (*rows, *peaks)
        ]
        found = measure(turns, rounds, progress, check=check_losses)
    left_out |= {one.name: one.failed for one in found if one.failed is not None}
    settings_of = {row.name: row.settings for row in (*rows, *peaks)}
    best = {
        name.removeprefix("peak "): peak
        for name, peak in ((one.name, summarize_peak(one)) for one in found if one.name.startswith("peak "))
        if peak
    }
    steps_measured = [one for one in found if one.failed is None and not one.name.startswith("peak ")]
    summaries = summarize(
        steps_measured, settings_of, flops=flops, peaks=best, against=against_of(steps_measured, ladder)
    )
    return {
        "ladder" if ladder else "rows": summaries,
        "left_out": left_out,
        "peak": best,
        "step": {
            "recipe": recipe.name,
            "backbone": recipe.model.backbone,
            "projector": list(recipe.model.projector),
            "batch": recipe.train.batch_size,
            "size": recipe.views.size,
            "steps": steps,
            "warmup": warmup,
            "loading": loading,
            "workers": workers if loading else None,
            "model_gflops_per_image": round(flops / 1e9, 4),
        },
        "machine": machine(device, threads, load_before),
    }


def make_images(given: Path | None, place: Path, count: int, workers: int, progress: Callable[[str], None]) -> Images:
    """JPEGs in class folders, and packed."""
    from barlowctl.bench.photographs import sample_photographs, write_photographs
    from barlowctl.data.pack import pack
    from barlowctl.data.sources import open_source

    folder, packed = place / "images", place / "images.beton"
    if given is not None:
        progress(f"drawing {count} of the JPEGs in {given}")
        sample_photographs(given, folder, count)
    else:
        progress(f"making {count} JPEGs")
        write_photographs(folder, count)
    pack(open_source(folder), packed, workers=cores())
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


def cost(answer: dict[str, Any], on_cpu: bool) -> float:
    """Seconds a step: of the CPU where the CPU computes, else of the clock."""
    return float(answer["cpu_seconds" if on_cpu else "seconds"]) / answer["steps"]


def against_of(found: Sequence[Measured], ladder: bool) -> dict[str, str | None]:
    """Whom each row is compared with: ours, or of a ladder the rung below."""
    measured = [one.name for one in found]
    if not ladder:
        return dict.fromkeys(measured, OURS if OURS in measured else None)
    return {rung.name: standing_on(rung, measured) for rung in LADDER if rung.name in measured}


def summarize(
    found: Sequence[Measured],
    settings: dict[str, StepSettings],
    *,
    flops: float,
    peaks: dict[str, dict[str, float]],
    against: dict[str, str | None],
) -> list[dict[str, Any]]:
    """Medians over the rounds, with [least, most] beside them under the same name and `_range`.

    ratio: the row's time by ours, how many times faster ours is; of a ladder the time of the rung below by the row's,
    how many times faster the rung made it. Round by round, of CPU time on a CPU. flops: of an image's training step.
    """
    by_name = {one.name: one for one in found}
    rows = []
    for one in found:
        told, answers = settings[one.name], one.answers
        on_cpu, recipe = told.device.type == "cpu", told.recipe
        costs = [cost(answer, on_cpu) for answer in answers]
        batch = recipe.train.batch_size
        peak = peaks.get(recipe.train.precision, {}).get("best")
        other = by_name.get(against[one.name] or "")
        row: dict[str, Any] = {
            "name": one.name,
            "precision": recipe.train.precision,
            "memory_format": "channels_last" if recipe.train.channels_last else "contiguous",
            "against": against[one.name],
            "loss": one.ready["loss"],
        }
        row |= _with_range("images_per_second", [answer["images"] / answer["seconds"] for answer in answers], 2)
        row |= _with_range("ms", [1e3 * answer["seconds"] / answer["steps"] for answer in answers], 3)
        row |= _with_range("cpu_seconds", [answer["cpu_seconds"] / answer["steps"] for answer in answers], 4)
        row |= _with_range("ratio", _ratios(one, other, on_cpu) if other else None, 3)
        row["model_tflops_per_second"] = round(flops * batch / statistics.median(costs) / 1e12, 4)
        row["peak_share"] = round(flops * batch / statistics.median(costs) / peak, 4) if peak else None
        row["peak_mb"] = round(max([*(answer["peak_bytes"] for answer in answers), one.peak]) / 1e6, 1)
        waits = [answer["waited"] / answer["seconds"] for answer in answers]
        row["data_wait"] = round(statistics.median(waits), 4) if told.loading is not None else None
        rows.append({**row, "n": len(answers)})
    return rows


def _ratios(one: Measured, other: Measured, on_cpu: bool) -> list[float]:
    """See `summarize`."""
    pairs = zip(one.answers, other.answers, strict=True)
    if other.name == OURS:
        return [cost(theirs, on_cpu) / cost(ours, on_cpu) for theirs, ours in pairs]
    return [cost(below, on_cpu) / cost(rung, on_cpu) for rung, below in pairs]


def summarize_peak(one: Measured) -> dict[str, float]:
    """Medians over the rounds, operations per second."""
    return {
        key: statistics.median(answer[key] for answer in one.answers)
        for key in ("product", "convolution", "best")
        if one.answers
    }


def machine(device: torch.device, threads: int, load_before: float) -> dict[str, Any]:
    """What was measured on."""
    return {
        "processor": processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cores": cores(),
        "threads": threads,
        "load_before": round(load_before, 1),
        "torch": str(torch.__version__),
    }


def _in(recipe: Recipe, precision: str) -> Recipe:
    return load.override(recipe, [f"train.precision={precision}"])


def _with_range(key: str, values: Sequence[float] | None, digits: int) -> dict[str, Any]:
    if not values:
        return {key: None, f"{key}_range": None}
    return {
        key: round(statistics.median(values), digits),
        f"{key}_range": [round(min(values), digits), round(max(values), digits)],
    }
