"""Small images held in memory: two-view samples per second of the fast loader with a recipe's own distortions.

    python benchmarks/small_images.py [--recipe cifar10-resnet18] [--images 20000] [--rounds 7] [--workers 2]

The images are crops of photographs, as large as the recipe's views and stored as pixels, as CIFAR's are.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from barlowctl.assemble.data import view_specs
from barlowctl.bench.photographs import write_photographs
from barlowctl.cores import usable_cores
from barlowctl.data.beton.layout import RAW
from barlowctl.data.beton.reader import Beton
from barlowctl.data.beton.writer import BetonWriter
from barlowctl.data.loaders.fast import FastLoader
from barlowctl.recipe import load


def write_small(folder: Path, count: int, side: int) -> Path:
    """`count` crops of (side, side) pixels in a packed file."""
    write_photographs(folder / "photographs", 50)
    photographs = [np.asarray(Image.open(path)) for path in sorted((folder / "photographs").glob("?/*.jpg"))]
    generator = np.random.default_rng(0)
    path = folder / "small.beton"
    with BetonWriter(path, count) as writer:
        for number in range(count):
            picture = photographs[number % len(photographs)]
            top, left = (int(generator.integers(length - side + 1)) for length in picture.shape[:2])
            crop = np.ascontiguousarray(picture[top : top + side, left : left + side])
            writer.append(crop, mode=RAW, width=side, height=side)
        writer.finish()
    return path


def main() -> None:
    """Print samples per second of wall time, and per CPU-second, round by round."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="cifar10-resnet18")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    recipe = load.load(arguments.recipe)
    with tempfile.TemporaryDirectory() as name:
        source = Beton.open(write_small(Path(name), arguments.images, recipe.views.size))
        options = {
            "batch_size": recipe.train.batch_size,
            "channels": recipe.data.channels,
            "threads": arguments.workers,
        }
        rates, per_cpu = [], []
        with FastLoader(source, views=view_specs(recipe), seed=0, **options) as loader:
            for number in range(arguments.rounds + 1):
                wall, cpu = time.perf_counter(), time.process_time()
                samples = sum(len(batch.indices) for batch in loader.epoch(number))
                if number:  # the first round warms up
                    rates.append(samples / (time.perf_counter() - wall))
                    per_cpu.append(samples / (time.process_time() - cpu))
    print(f"{arguments.recipe}, {arguments.images} images, {arguments.workers} threads, n = {arguments.rounds}")
    print(f"load before {os.getloadavg()[0]:.1f}, {usable_cores()} cores; two-view samples, median (range)")
    for label, values in (("per second", rates), ("per CPU-second", per_cpu)):
        print(f"{label}: {statistics.median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})")


if __name__ == "__main__":
    main()
