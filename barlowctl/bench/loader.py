"""The two-view loader against the alternatives: which rows there are, and what is said of each."""

from __future__ import annotations

import importlib.util
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from barlowctl.bench.photographs import sample_photographs, write_photographs
from barlowctl.bench.turns import Measured, Turn, measure
from barlowctl.cores import usable_cores
from barlowctl.errors import UserError, did_you_mean, instead

REFERENCE = "authors"
ROWS = ("authors", "torchvision-v2", "ffcv-stock", "ours", "ours-geometric", "lightly", "dali")
NEEDS = {"ffcv-stock": "ffcv", "lightly": "lightly", "dali": "nvidia.dali"}  # row -> module
PIPELINE = "barlowctl.bench.pipeline"


def choose_rows(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The rows to run, in the order of `ROWS`, and those left out with the reason. No names: all.

    Raises:
        UserError: an unknown name, or one asked for by name whose library is missing.
    """
    for name in names:
        if name not in ROWS:
            raise UserError(
                f"there is no row '{name}'{did_you_mean(name, ROWS)}",
                allowed=", ".join(ROWS),
                next=instead("--rows", name, ROWS),
            )
    chosen, left_out = [], {}
    for name in ROWS:
        if names and name not in names:
            continue
        missing = NEEDS.get(name)
        if missing is None or _is_installed(missing):
            chosen.append(name)
        elif names:
            raise UserError(f"the row '{name}' needs {missing}, which is not installed", next="without --rows")
        else:
            left_out[name] = f"{missing} is not installed"
    return chosen, left_out


def compare(
    folder: Path | None,
    *,
    names: Sequence[str] = (),
    count: int = 2048,
    images: int = 512,
    rounds: int = 5,
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
    from barlowctl.data.beton.pack import pack
    from barlowctl.data.beton.reader import Beton
    from barlowctl.data.sources import open_source

    chosen, left_out = choose_rows(names)
    with tempfile.TemporaryDirectory(prefix="barlowctl-bench-") as name:
        place = Path(name)
        given, folder = folder, place / "images"
        if given is None:
            progress(f"making {count} JPEGs")
            write_photographs(folder, count)
        else:
            progress(f"drawing {count} of the JPEGs in {given}")
            sample_photographs(given, folder, count)
        pack(open_source(folder), place / "images.beton", workers=workers)
        packed = Beton.open(place / "images.beton")
        images = min(images, packed.num_samples)
        facts = {
            "images": packed.num_samples,
            "mean_pixels": round(float((packed.widths * packed.heights).mean())),
            "mean_bytes": round(float(packed.sizes.mean())),
        }
        settings = {
            "folder": str(folder),
            "packed": str(packed.path),
            "images": images,
            "batch": min(batch, images),
            "size": size,
            "workers": workers,
        }
        load = os.getloadavg()[0]
        turns = [Turn(row, PIPELINE, settings, optional=not names and row in NEEDS) for row in chosen]
        found = measure(turns, rounds, progress)
    left_out |= {one.name: one.failed for one in found if one.failed is not None}
    return {
        "rows": summarize([one for one in found if one.failed is None]),
        "left_out": left_out,
        "set": facts,
        "round": {key: settings[key] for key in ("images", "batch", "size", "workers")},
        "machine": {"processor": processor(), "cores": usable_cores(), "load_before": round(load, 1)},
    }


def summarize(found: Sequence[Measured]) -> list[dict[str, Any]]:
    """Medians over the rounds, with [least, most] beside them under the same name and `_range`.

    Ratios are taken round by round against the `authors` row and are above 1 where a row is better; None where
    that row was not run. peak_mb: memory of the process and its workers, in 10^6 bytes.
    """
    reference = next((one for one in found if one.name == REFERENCE), None)
    rows = []
    for one in found:
        cpu, wall = _ratios(reference, one) if reference else (None, None)
        row: dict[str, Any] = {"name": one.name}
        for key, values in (
            ("images_per_second", one.rates),
            ("cpu_ms_per_image", one.cpu_ms),
            ("ratio_cpu", cpu),
            ("ratio_wall", wall),
        ):
            row[key] = None if values is None else round(statistics.median(values), 3)
            row[f"{key}_range"] = None if values is None else [round(min(values), 3), round(max(values), 3)]
        rows.append({**row, "peak_mb": round(one.peak / 1e6), "n": len(one.rates)})
    return rows


def _ratios(reference: Measured, one: Measured) -> tuple[list[float], list[float]]:
    cpu = [theirs / ours for theirs, ours in zip(reference.cpu_ms, one.cpu_ms, strict=True)]
    wall = [ours / theirs for theirs, ours in zip(reference.rates, one.rates, strict=True)]
    return cpu, wall


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package above it
        return False


def processor() -> str:
    """The processor's name, where Linux says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
