"""Detectors from a backbone that was pre-trained without labels beside those from random weights, on the generated set.

    python -m benchmarks.detection_pretrained FOLDER [--seeds 3] [--iterations 400] [--epochs 20] [--rates 0.02 ...]

Barlow Twins on 4,096 generated images of one shape each, without annotations. 100 images with annotations are trained
on and 48 tested on, in intervals. Each start has its own learning rate, the best of the same list after half the
iterations on 100 + 48 other images, which are not reported; random weights are reported at the other's rate too.
What is finished is not done again.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from barlowctl.assemble.detection_settings import detection_settings
from barlowctl.assemble.machine import Runtime
from barlowctl.measure.baselines import baseline
from barlowctl.measure.detection import Task, measure_detection
from barlowctl.measure.subjects import open_subject
from benchmarks.detection_shapes import draw, ellipse, ground, rectangle, triangle, write_shapes

UNLABELLED, TRAINING, TEST = 4096, 100, 48
UNLABELLED_SEED, CHOICE_SEED, LABELLED_SEED = 100, 1, 0
SIDE = 96
TESTS = 5
REACHED = (20.0, 40.0)
"""AP50, percent: the table has the iterations until each."""
VIEW = """
crop_scale = [0.3, 1.0]
crop_ratio = [0.75, 1.33]
flip = 0.5
jitter = 0.8
brightness = 0.4
contrast = 0.4
saturation = 0.2
hue = 0.3
grayscale = 0.2
blur = 0.3
blur_sigma = [0.1, 1.0]
solarize = 0.0
"""
RECIPE = f"""
name = "shapes"
description = "Generated shapes, for the study of detection"
[data]
drop_last = true
[views]
size = 64
interpolation = "bilinear"
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
[views.first]{VIEW}
[views.second]{VIEW}
[model]
backbone = "resnet18"
zero_init_last = false
projector = [256, 256, 256]
[model.backbone_args]
layers = [1, 1, 1, 1]
channels = [16, 32, 64, 96]
stem_type = "deep"
stem_width = 8
[objective]
lambd = 0.04
[optimizer]
name = "muon"
lr = 0.04
lr_biases = 3e-3
momentum = 0.95
weight_decay = 1e-2
[train]
batch_size = 128
warmup_epochs = 1
precision = "fp32"
cpu_threads = 1
[eval]
every_epochs = 0
"""
DETECTOR = (
    "warmup_iterations=30", "short_sides=[128]", "longest=320", "test_short_side=128", "anchor_sizes=[16,32,64,128]",
    "before_nms={train=600,test=400}", "proposals={train=200,test=100}", "rois_per_image=64", "statistics=10",
    "masks=false", "detections=20",
)  # fmt: skip


def barlowctl(*words: str) -> None:
    """Run a command, which is printed."""
    print("barlowctl", shlex.join(words), flush=True)
    subprocess.run([sys.executable, "-m", "barlowctl", *words], check=True)


def one_shape(number: int) -> np.ndarray:
    """uint8 (SIDE, SIDE, 3): a shape that fills 0.4 to 0.8 of the image each way, on ground of its own."""
    generator = np.random.default_rng([UNLABELLED_SEED, 2, number])
    pixels = ground(generator, SIDE, SIDE)
    width, height = (generator.uniform(0.4, 0.8, 2) * SIDE).tolist()
    place = generator.uniform(1, SIDE - width - 1), generator.uniform(1, SIDE - height - 1)
    kind = int(generator.integers(3))
    if kind == 2:
        shape = triangle(*place, width, height, generator.uniform(0.2, 0.8))
    else:
        shape = (ellipse, rectangle)[kind](*place, width, height)
    draw(generator, pixels, shape)
    return np.clip(pixels + 0.5, 0, 255).astype(np.uint8)


def write_images(folder: Path) -> None:
    """Images with annotations, to report and to choose on, and others without."""
    unlabelled = folder / "unlabelled"
    unlabelled.mkdir(parents=True, exist_ok=True)
    for number in range(UNLABELLED):
        Image.fromarray(one_shape(number)).save(unlabelled / f"{number:05d}.jpg", quality=92)
    write_shapes(folder / "choice", train=TRAINING, test=TEST, seed=CHOICE_SEED)
    write_shapes(folder / "shapes", train=TRAINING, test=TEST, seed=LABELLED_SEED)


def pretrain(folder: Path, epochs: int) -> None:
    """A run in `folder`/run."""
    packed = folder.resolve() / "unlabelled.beton"
    (folder / "pretrain.toml").write_text(RECIPE.replace("[data]", f"[data]\ndataset = {json.dumps(str(packed))}"))
    if not packed.exists():
        barlowctl("data", "pack", str(folder / "unlabelled"), str(packed))
    barlowctl(
        "pretrain", "--recipe", str(folder / "pretrain.toml"), "--out", str(folder / "run"),
        "--set", f"train.epochs={epochs}",
    )  # fmt: skip


def curve(trials: list[dict[str, Any]]) -> dict[int, list[tuple[float, float]]]:
    """Iteration -> (AP, AP50) of each trial."""
    points: dict[int, list[tuple[float, float]]] = {}
    for trial in trials:
        for line in (Path(trial["folder"]) / "metrics.jsonl").read_text().splitlines():
            record = json.loads(line)
            if record["event"] == "evaluation":
                points.setdefault(record["step"], []).append((record["AP"], record["AP50"]))
    return points


def detectors(
    folder: Path, start: str, images: str, rate: float, *, iterations: int, seeds: int = 1, tests: int = 0
) -> list[dict[str, Any]]:
    """Trials from a start at a rate, trained and tested on `folder`/`images`: what `barlowctl transfer` does."""
    overrides = (*DETECTOR, f"lr={rate:g}", f"test_every={max(1, iterations // tests) if tests else 0}")
    settings = detection_settings("coco", iterations=iterations, batch_size=4, overrides=overrides)
    subject = open_subject(str(folder / "run"))
    if start == "random":
        subject = baseline(subject, "random-init")
    print(f"{images}, {start}, lr {rate:g}, {iterations} iterations, seeds: {seeds}", flush=True)
    task = Task("coco", settings, str(folder / images / "coco"), seeds)
    result = measure_detection(subject, task, Runtime("cpu", threads=1), folder=folder / f"{images}-lr{rate:g}")
    trials: list[dict[str, Any]] = result["trials"]
    return trials


def best_rate(folder: Path, start: str, rates: list[float], iterations: int) -> float:
    """The rate with the highest AP50 after half the iterations, on images that are not reported; each is printed."""
    scores = {rate: detectors(folder, start, "choice", rate, iterations=iterations // 2)[0]["AP50"] for rate in rates}
    print(f"AP50 of {start} by rate, on the images to choose on: {scores}", flush=True)
    return max(scores, key=lambda rate: scores[rate])


def until(points: list[tuple[int, float]], score: float) -> float | None:
    """Iterations until AP50 was `score`, in a straight line between tests, from 0 at 0; None: never."""
    for (before, low), (after, high) in pairwise([(0, 0.0), *points]):
        if high >= score:
            return before + (after - before) * (score - low) / (high - low)
    return None


def summary(values: list[float | None], digits: int) -> str:
    """Mean and standard deviation, or how many there are where some are missing."""
    there = [value for value in values if value is not None]
    if len(there) < len(values):
        return f"{len(there)} of {len(values)} seeds"
    spread = f" ± {statistics.stdev(there):.{digits}f}" if len(there) > 1 else ""
    return f"{statistics.fmean(there):.{digits}f}{spread}"


def table(columns: dict[str, list[dict[str, Any]]]) -> str:
    """Mean and standard deviation over seeds, in Markdown; a column for each start."""
    curves = {name: curve(trials) for name, trials in columns.items()}
    lines = [f"| | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"]
    for step in sorted(next(iter(curves.values()))):
        for number, metric in ((1, "AP50"), (0, "AP")):
            cells = [summary([point[number] for point in points[step]], 1) for points in curves.values()]
            lines.append(f"| {metric} after {step} | {' | '.join(cells)} |")
    for score in REACHED:
        cells = []
        for points in curves.values():
            count = len(next(iter(points.values())))
            of_seeds = [[(step, points[step][seed][1]) for step in sorted(points)] for seed in range(count)]
            cells.append(summary([until(of_seed, score) for of_seed in of_seeds], 0))
        lines.append(f"| iterations to AP50 {score:g} | {' | '.join(cells)} |")
    seconds = [summary([trial["training"]["cpu_seconds"] for trial in trials], 0) for trials in columns.values()]
    lines.append(f"| CPU-seconds of a training with its tests | {' | '.join(seconds)} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.02, 0.05, 0.15, 0.4])
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    if not (folder / "shapes").is_dir():
        write_images(folder)
    if not (folder / "run" / "result.json").is_file():
        pretrain(folder, arguments.epochs)
    starts = ("pre-trained", "random")
    rates = {start: best_rate(folder, start, arguments.rates, arguments.iterations) for start in starts}
    columns = {}
    # Random weights have the other's rate too: half the iterations may not tell which is better in the end.
    for start, rate in dict.fromkeys([*rates.items(), ("random", rates["pre-trained"])]):
        columns[f"{start}, lr {rate:g}"] = detectors(
            folder, start, "shapes", rate, iterations=arguments.iterations, seeds=arguments.seeds, tests=TESTS
        )
    print(table(columns))


if __name__ == "__main__":
    main()
