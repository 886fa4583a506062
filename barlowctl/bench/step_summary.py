"""Summaries of the step's rows: medians of both orders, ranges, ratios by rounds, shares of the machine's peak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from barlowctl.bench.benchmark_process import Measured
from barlowctl.bench.both_orders import middle, ratios, with_range
from barlowctl.bench.step_ablation import ABLATION, nearest_measured
from barlowctl.bench.step_settings import OURS, StepSettings


def cost(answer: dict[str, Any], on_cpu: bool) -> float:
    """Seconds a step: of the CPU where the CPU computes, else of the clock."""
    return float(answer["cpu_seconds" if on_cpu else "seconds"]) / answer["steps"]


def against_of(rows: Sequence[Measured], ablation: bool) -> dict[str, str | None]:
    """What each row is compared with: ours; in an ablation, the row that it changes."""
    measured = [row.name for row in rows]
    if not ablation:
        return dict.fromkeys(measured, OURS if OURS in measured else None)
    return {row.name: nearest_measured(row, measured) for row in ABLATION if row.name in measured}


def summarize(
    rows: Sequence[Measured],
    settings: dict[str, StepSettings],
    *,
    flops: float,
    peaks: dict[str, dict[str, float]],
    against: dict[str, str | None],
) -> list[dict[str, Any]]:
    """Middles over the rounds (`both_orders`), with [least, most] beside them under the same name and `_range`.

    ratio: the row's time by ours, how many times faster ours is; in an ablation the time of the row before by the
    row's, how many times faster the changed setting made it. Round by round, of CPU time on a CPU;
    `ratio_by_order` has the medians in either order of the rows.
    flops: of an image's training step.
    """
    by_name = {row.name: row for row in rows}
    summaries = []
    for row in rows:
        of_row, answers = settings[row.name], row.answers
        on_cpu, recipe = of_row.device.type == "cpu", of_row.recipe
        costs = [cost(answer, on_cpu) for answer in answers]
        batch = recipe.train.batch_size
        peak = peaks.get(recipe.train.precision, {}).get("best")
        other = by_name.get(against[row.name] or "")
        summary: dict[str, Any] = {
            "name": row.name,
            "precision": recipe.train.precision,
            "memory_format": "channels_last" if recipe.train.channels_last else "contiguous",
            "optimizer": of_row.optimizer,
            "against": against[row.name],
            "loss": row.ready["loss"],
        }
        summary |= with_range("images_per_second", [answer["images"] / answer["seconds"] for answer in answers], 2)
        summary |= with_range("ms", [1e3 * answer["seconds"] / answer["steps"] for answer in answers], 3)
        summary |= with_range("cpu_seconds", [answer["cpu_seconds"] / answer["steps"] for answer in answers], 4)
        summary |= ratios("ratio", _ratios(row, other, on_cpu) if other else None, 3)
        summary["model_tflops_per_second"] = round(flops * batch / middle(costs) / 1e12, 4)
        summary["peak_share"] = round(flops * batch / middle(costs) / peak, 4) if peak else None
        summary["peak_mb"] = round(max([*(answer["peak_bytes"] for answer in answers), row.peak]) / 1e6, 1)
        waits = [answer["waited"] / answer["seconds"] for answer in answers]
        summary["data_wait"] = round(middle(waits), 4) if of_row.loading is not None else None
        summary["notes"] = answers[-1]["notes"]
        summaries.append({**summary, "n": len(answers)})
    return summaries


def _ratios(row: Measured, other: Measured, on_cpu: bool) -> list[float]:
    """See `summarize`."""
    pairs = [(cost(own, on_cpu), cost(others, on_cpu)) for own, others in zip(row.answers, other.answers, strict=True)]
    return [own / others if other.name == OURS else others / own for own, others in pairs]


def summarize_peak(row: Measured) -> dict[str, float]:
    """Middles over the rounds, operations per second."""
    return {
        key: middle([answer[key] for answer in row.answers])
        for key in ("product", "convolution", "best")
        if row.answers
    }
