"""The two-view loader against the alternatives: which rows there are, and their summaries."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from barlowctl import processor
from barlowctl.bench.benchmark_process import BenchmarkProcess, Measured, measure_in_turns
from barlowctl.bench.both_orders import ratios, with_range
from barlowctl.bench.photographs import jpegs_and_packed
from barlowctl.bench.room import temporary_folder
from barlowctl.cores import usable_cores
from barlowctl.errors import UserError, did_you_mean, instead

REFERENCE = "authors"
ROWS = (
    "authors", "torchvision-v2", "ffcv-stock", "ours", "ours-simplejpeg", "ours-geometric", "ours-multi-crop",
    "lightly", "dali",
)  # fmt: skip
NEEDS = {"ffcv-stock": "ffcv", "ours-simplejpeg": "simplejpeg", "lightly": "lightly", "dali": "nvidia.dali"}
"""The module that a row is left out without."""
PIPELINE = "barlowctl.bench.pipeline"


def choose_rows(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The rows to run, in the order of `ROWS`, and those left out with the reason. No names: all.

    Raises:
        UserError: an unknown name, or one asked for by name whose library is missing.
    """
    here = [name for name in ROWS if name not in NEEDS or _is_installed(NEEDS[name])]
    for name in names:
        if name not in ROWS:
            raise UserError(
                f"there is no row '{name}'{did_you_mean(name, ROWS)}",
                allowed=", ".join(ROWS),
                next=instead("--rows", name, here),
            )
    chosen, left_out = [], {}
    for name in ROWS:
        if names and name not in names:
            continue
        missing = NEEDS.get(name)
        if missing is None or _is_installed(missing):
            chosen.append(name)
        elif names:
            raise UserError(
                f"the row '{name}' needs {missing}, which is not installed",
                allowed=f"{', '.join(here)}; others once pip has installed what they need",
                next="without --rows",
            )
        else:
            left_out[name] = f"{missing} is not installed"
    return chosen, left_out


def compare(
    folder: Path | None,
    *,
    names: Sequence[str] = (),
    count: int = 2048,
    images: int = 512,
    rounds: int = 6,
    batch: int = 256,
    size: int = 224,
    workers: int = 2,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Run the rows in turns on the same JPEGs.

    Args:
        folder: JPEGs in folders of any kind, of which `count` are drawn; None: make `count` (`photographs`).
        names: the rows; none: all that are installed.
        images: of a round, drawn from all. rounds: that count; one of warm-up comes before.
        batch: images of a batch. size: side of a view. workers: of each pipeline.

    Returns:
        {"rows": [one dictionary a row, see `summarize`], "left_out": {row: reason}, what was run on}.

    Raises:
        UserError: unknown rows, no images, or a pipeline that fails. Other people's libraries that are installed and
            fail are left out, unless they were asked for by name.
    """
    from barlowctl.data.beton.reader import Beton

    chosen, left_out = choose_rows(names)
    with temporary_folder() as parent:
        jpegs, beton = jpegs_and_packed(folder, parent, count, workers, progress)
        packed = Beton.open(beton)
        images = min(images, packed.num_samples)
        described = {
            "images": packed.num_samples,
            "mean_pixels": round(float((packed.widths * packed.heights).mean())),
            "mean_bytes": round(float(packed.sizes.mean())),
        }
        settings = {
            "folder": str(jpegs),
            "packed": str(packed.path),
            "images": images,
            "batch": min(batch, images),
            "size": size,
            "workers": workers,
        }
        load = os.getloadavg()[0]
        processes = [BenchmarkProcess(row, PIPELINE, settings, optional=not names and row in NEEDS) for row in chosen]
        measured = measure_in_turns(processes, rounds, progress)
    left_out |= {row.name: row.failed for row in measured if row.failed is not None}
    return {
        "rows": summarize([row for row in measured if row.failed is None]),
        "left_out": left_out,
        "set": described,
        "round": {key: settings[key] for key in ("images", "batch", "size", "workers")},
        "machine": {"processor": processor.name(), "cores": usable_cores(), "load_before": round(load, 1)},
    }


def summarize(rows: Sequence[Measured]) -> list[dict[str, Any]]:
    """Middles over the rounds (`both_orders`), with [least, most] beside them under the same name and `_range`.

    Ratios are taken round by round against the `authors` row and are above 1 where a row is better; None where
    that row was not run. peak_mb: memory of the process and its workers, in 10^6 bytes.
    """
    reference = next((row for row in rows if row.name == REFERENCE), None)
    summaries = []
    for row in rows:
        cpu, wall = _ratios(reference, row) if reference else (None, None)
        summary: dict[str, Any] = {"name": row.name}
        summary |= with_range("images_per_second", row.rates, 3) | with_range("cpu_ms_per_image", row.cpu_ms, 3)
        summary |= ratios("ratio_cpu", cpu, 3) | ratios("ratio_wall", wall, 3)
        summaries.append({**summary, "peak_mb": round(row.peak / 1e6), "n": len(row.rates)})
    return summaries


def _ratios(reference: Measured, row: Measured) -> tuple[list[float], list[float]]:
    cpu = [reference_ms / ms for reference_ms, ms in zip(reference.cpu_ms, row.cpu_ms, strict=True)]
    wall = [rate / reference_rate for reference_rate, rate in zip(reference.rates, row.rates, strict=True)]
    return cpu, wall


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package above it
        return False
