"""What is said of the step's rows: medians, ranges, ratios round by round, shares of the machine's peak."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from barlowctl.bench.step_ladder import LADDER, standing_on
from barlowctl.bench.step_settings import OURS, StepSettings
from barlowctl.bench.turns import Measured


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
            "optimizer": told.optimizer,
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
        row["notes"] = answers[-1]["notes"]
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


def _with_range(key: str, values: Sequence[float] | None, digits: int) -> dict[str, Any]:
    if not values:
        return {key: None, f"{key}_range": None}
    return {
        key: round(statistics.median(values), digits),
        f"{key}_range": [round(min(values), digits), round(max(values), digits)],
    }
