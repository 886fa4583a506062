"""Weights of one half of Fashion-MNIST's classes, adapted to the other half: `make study-adaptation`, or

    python docs/study/adaptation.py studies/adaptation [--seeds 0,1,2] [--only ARM,...] [--results FOLDER]

The source half is trouser, dress, sandal, sneaker and ankle boot, the target half T-shirt, pullover, coat, shirt and
bag, which are harder to tell apart. For each seed a backbone is pre-trained on the source half, and every arm of `ARMS`
trains on the target half for the same number of steps. What comes out is measured on both halves' test images, frozen:
the target half says what was gained, the source half what was forgotten.

Stop it and run it again as you like: a finished run and a finished measurement stay, and seeds may be run in processes
of their own. FOLDER gets results.md and cells.csv. Nothing was tuned: the settings are the first that were tried.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import study_script
import torch
from study_script import mean_and_spread

from barlowctl.assemble.data import open_images
from barlowctl.assemble.evaluation import extract
from barlowctl.assemble.finished import open_run
from barlowctl.assemble.job import prepare
from barlowctl.assemble.launch import launch
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.model import preprocessing_of
from barlowctl.data.beton.reader import Beton
from barlowctl.data.beton.writer import BetonWriter
from barlowctl.data.home import resolve
from barlowctl.eval import knn
from barlowctl.eval.linear import linear_probe
from barlowctl.files import write_text
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe
from barlowctl.study.table import quantile

RECIPE = Path(__file__).with_name("recipe.toml")
HALVES = {"source": (1, 3, 5, 7, 9), "target": (0, 2, 4, 6, 8)}
SOURCE_EPOCHS, TARGET_EPOCHS = 4, 1.5
BANK = 10_000  # training images of a half that vote, and that the classifier is fitted on
INIT = ("init.weights={source}", "init.heads=false")  # as published weights come: without a projector
CAREFUL = (
    "optimizer.lr=0.01", "optimizer.lr_biases=7.5e-4", "optimizer.layer_decay=0.7",
    "train.freeze_backbone_epochs=0.15", "train.warmup_epochs=0.3",
)  # fmt: skip
LONG = ("train.epochs=4", "train.warmup_epochs=0.67")  # as long as the source weights were trained
ARMS: Mapping[str, tuple[str, ...]] = {
    "scratch": (),
    "continued": INIT,
    "adapted": (*INIT, *CAREFUL),
    "adapted-top": (*INIT, *CAREFUL, "train.freeze=layer3"),
    "scratch-long": LONG,
    "continued-long": (*INIT, *LONG),
    "adapted-long": (*INIT, *CAREFUL, *LONG, "train.freeze_backbone_epochs=0.4", "train.warmup_epochs=0.8"),
}
WHAT = {
    "not adapted": "the source weights as they are",
    "scratch": "random weights, the base recipe",
    "continued": "the source weights, the base recipe with its rates for random weights",
    "adapted": "the source weights; a quarter of the rates, layer decay 0.7, the projector alone for the first tenth",
    "adapted-top": "as adapted, and frozen up to layer3: layer4 and the projector learn",
    "scratch-long": "as scratch, for 4 epochs",
    "continued-long": "as continued, for 4 epochs",
    "adapted-long": "as adapted, for 4 epochs",
}


def split_classes(folder: Path) -> dict[str, Path]:
    """Both halves as packed files `train.beton` and `test.beton` in folders of their own."""
    folders = {}
    for half, classes in HALVES.items():
        folders[half] = folder / "data" / half
        for split in ("train", "test"):
            path = folders[half] / f"{split}.beton"
            if path.is_file():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = Beton.open(resolve("fashion-mnist", split))
            rows = np.flatnonzero(np.isin(whole.labels, classes))
            names = [whole.class_names[label] for label in classes]
            with BetonWriter(path, capacity=len(rows), class_names=names) as writer:
                for row in map(int, rows):
                    writer.append(
                        whole.stored(row).tobytes(),
                        mode=int(whole.modes[row]),
                        width=int(whole.widths[row]),
                        height=int(whole.heights[row]),
                        label=classes.index(int(whole.labels[row])),
                    )
                writer.finish(channels=1)
    return folders


def train(recipe: Recipe, path: Path) -> None:
    """A finished run in `path`; one that was stopped goes on."""
    if (path / "result.json").is_file():
        return
    begun = (path / "recipe.toml").is_file()
    job = prepare(recipe, Runtime(threads=1), resume=path if begun else None)
    launch(job, path, lambda event: None, resume=begun)


def measure(run: Path, halves: Mapping[str, Path]) -> dict[str, float]:
    """kNN (k 20) and linear top-1 of a run's frozen backbone on the test images of both halves, percent."""
    finished = open_run(run)
    preprocessing, device = preprocessing_of(finished.recipe), torch.device("cpu")
    values = {}
    for half, folder in halves.items():
        bank, test = (open_images(str(folder), split) for split in ("train", "test"))
        rows = np.sort(np.random.default_rng(0).permutation(bank.num_samples)[:BANK])
        fitted, labels = extract(finished.method.backbone, bank, preprocessing, Runtime(threads=1), device, rows)
        queries, truth = extract(finished.method.backbone, test, preprocessing, Runtime(threads=1), device)
        votes = knn.knn_predict(fitted, labels, queries, k=(20,), num_classes=5)
        values[f"{half}_knn"] = 100.0 * knn.accuracy(votes[20].scores, truth)
        linear = linear_probe(fitted, labels, queries, truth, num_classes=5, seed=0, weight_decays=(1e-4,))
        values[f"{half}_linear"] = 100.0 * linear.top1
    return values


def cell(folder: Path, name: str, seed: int, changes: Sequence[str], halves: Mapping[str, Path]) -> Path:
    """Train and measure one cell; its run's folder."""
    path = folder / "cells" / name / f"seed-{seed}"
    path.parent.mkdir(parents=True, exist_ok=True)
    train(load.load(str(RECIPE), [f"seed={seed}", *changes]), path)
    out = path / "measured.json"
    if not out.is_file():
        seconds = json.loads((path / "result.json").read_text())["cpu_seconds"]
        values = {"cell": name, "seed": seed, "cpu_seconds": seconds, **measure(path, halves)}
        write_text(out, json.dumps(values, indent=2) + "\n")
        print(json.dumps(values), flush=True)
    return path


def study(folder: Path, seeds: Iterable[int], arms: Iterable[str]) -> None:
    """Every cell that is not there yet, seed by seed."""
    halves = split_classes(folder)
    for seed in seeds:
        changes = [f"data.dataset={halves['source']}", f"train.epochs={SOURCE_EPOCHS}"]
        source = cell(folder, "source", seed, changes, halves)
        for name in arms:
            of_source = [text.format(source=source) for text in ARMS[name]]
            length = [f"train.epochs={TARGET_EPOCHS}", "train.warmup_epochs=0.25"]  # the base recipe's share of it
            changes = [f"data.dataset={halves['target']}", *length, *of_source]
            cell(folder, name, seed, changes, halves)


METRICS = {
    "target_knn": "target kNN",
    "target_linear": "target linear",
    "source_knn": "source kNN",
    "source_linear": "source linear",
}


def results(folder: Path) -> tuple[str, str]:
    """The text of results.md and of cells.csv."""
    cells = [json.loads(path.read_text()) for path in sorted(folder.glob("cells/*/seed-*/measured.json"))]
    by_arm: dict[str, dict[int, Any]] = {}
    for values in cells:
        name = "not adapted" if values["cell"] == "source" else values["cell"]
        by_arm.setdefault(name, {})[values["seed"]] = values
    arms = [name for name in WHAT if name in by_arm]
    lines = [__doc__.partition("\n")[0].partition(": ")[0] + ", in numbers", "", *_levels(by_arm, arms)]
    for base in ("not adapted", "scratch"):
        if base in by_arm:
            lines += ["", *_differences(by_arm, arms, base)]
    return "# " + "\n".join(lines) + "\n", study_script.as_csv(["cell", "seed", *METRICS, "cpu_seconds"], cells)


def _levels(by_arm: Mapping[str, Mapping[int, Any]], arms: Sequence[str]) -> list[str]:
    lines = ["Percent of test images, mean ± standard deviation over seeds.", ""]
    lines += [f"| arm | what | seeds | {' | '.join(METRICS.values())} | CPU seconds |"]
    lines += ["|---|---|---:|" + "---:|" * (len(METRICS) + 1)]
    for name in arms:
        of_seeds = list(by_arm[name].values())
        columns = [mean_and_spread([values[key] for values in of_seeds], 2) for key in METRICS]
        seconds = statistics.mean(values["cpu_seconds"] for values in of_seeds)
        lines.append(f"| {name} | {WHAT[name]} | {len(of_seeds)} | {' | '.join(columns)} | {seconds:.0f} |")
    return lines


def _differences(by_arm: Mapping[str, Mapping[int, Any]], arms: Sequence[str], base: str) -> list[str]:
    lines = [
        f"Difference to '{base}' of the same seed, in points, with half its 95 % interval (paired t over seeds).",
        "",
        f"| arm | {' | '.join(METRICS.values())} |",
        "|---|" + "---:|" * len(METRICS),
    ]
    for name in arms:
        shared = sorted(by_arm[name].keys() & by_arm[base].keys())
        if name == base or not shared:
            continue
        columns = [_paired([by_arm[name][s][key] - by_arm[base][s][key] for s in shared]) for key in METRICS]
        lines.append(f"| {name} | {' | '.join(columns)} |")
    return lines


def _paired(differences: Sequence[float]) -> str:
    mean = statistics.mean(differences)
    if len(differences) < 2:
        return f"{mean:+.2f}"
    half = quantile(len(differences) - 1) * statistics.stdev(differences) / len(differences) ** 0.5
    return f"{mean:+.2f} ± {half:.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    study_script.run(__doc__, "arms", tuple(ARMS), study, results, arguments)


if __name__ == "__main__":
    main()
