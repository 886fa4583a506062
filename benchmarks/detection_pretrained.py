"""Detectors from a backbone that was pre-trained without labels beside those from random weights, on the generated set.

    python -m benchmarks.detection_pretrained FOLDER [--seeds 3] [--iterations 200] [--lr 0.15] [--epochs 40]

1,536 generated images without annotations are pre-trained on with Barlow Twins; 64 others with annotations are trained
on and 48 tested on, in intervals. All of it is commands of barlowctl; what is finished is not done again.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.detection_shapes import scene, write_shapes

UNLABELLED, TRAINING, TEST = 1536, 64, 48
UNLABELLED_SEED, LABELLED_SEED = 100, 0
VIEW = """
crop_scale = [0.15, 0.6]
crop_ratio = [0.75, 1.33]
flip = 0.5
jitter = 0.8
brightness = 0.4
contrast = 0.4
saturation = 0.2
hue = 0.1
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
warmup_epochs = 2
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


def write_images(folder: Path) -> None:
    """Images with annotations, and others without."""
    write_shapes(folder / "shapes", train=TRAINING, test=TEST, seed=LABELLED_SEED)
    unlabelled = folder / "unlabelled"
    unlabelled.mkdir()
    for number in range(UNLABELLED):
        image = scene("train", number, UNLABELLED_SEED)
        Image.fromarray(image.pixels).save(unlabelled / f"{image.name}.jpg", quality=92)


def pretrain(folder: Path, epochs: int) -> None:
    """A run in `folder`/run."""
    (folder / "pretrain.toml").write_text(RECIPE)
    packed = str(folder / "unlabelled.beton")
    barlowctl("data", "pack", str(folder / "unlabelled"), packed)
    barlowctl(
        "pretrain", "--recipe", str(folder / "pretrain.toml"), "--data", packed, "--out", str(folder / "run"),
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


def table(result: dict[str, Any]) -> str:
    """Mean and standard deviation over seeds, in Markdown."""
    columns = [curve(result["trials"]), curve(result["floors"][0]["trials"])]
    lines = [
        "| iterations | AP50, pre-trained | AP50, random | AP, pre-trained | AP, random |",
        "|---|---|---|---|---|",
    ]
    for step in sorted(columns[0]):
        cells = []
        for number in (1, 0):
            for column in columns:
                values = [point[number] for point in column[step]]
                spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
                cells.append(f"{statistics.fmean(values):.1f}{spread}")
        lines.append(f"| {step} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--lr", type=float, default=0.15)
    parser.add_argument("--epochs", type=int, default=40)
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    if not (folder / "shapes").is_dir():
        write_images(folder)
    if not (folder / "run" / "result.json").is_file():
        pretrain(folder, arguments.epochs)
    settings = [*DETECTOR, f"lr={arguments.lr:g}", f"test_every={max(1, arguments.iterations // 5)}"]
    barlowctl(
        "transfer", str(folder / "run"), "--task", "coco", "--data", str(folder / "shapes" / "coco"),
        "--out", str(folder / "detectors"), "--iterations", str(arguments.iterations), "--batch", "4",
        "--threads", "1", "--seeds", str(arguments.seeds), "--random-init",
        *(word for setting in settings for word in ("--set", setting)),
    )  # fmt: skip
    print(table(json.loads((folder / "detectors" / "transfer-coco.json").read_text())))


if __name__ == "__main__":
    main()
