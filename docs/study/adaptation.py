"""Weights of one half of Fashion-MNIST's classes, adapted to the other half and to colour tiles.

`make study-adaptation`, or

    python docs/study/adaptation.py studies/adaptation [--seeds 0,1,2] [--only ARM,...] [--results FOLDER]

The source half is trouser, dress, sandal, sneaker and ankle boot. There are two targets. `clothes`, near: T-shirt,
pullover, coat, shirt and bag, which are harder to tell apart. `tiles`, far: the colour tiles of `colour_tiles.py`,
packed as `colour-tiles`. For each seed a backbone is pre-trained on the source half, and every arm of `ARMS` trains on
a target for the same number of steps. What comes out is measured on test images, frozen: those of the target say what
was gained, those of the source half what was forgotten (of clothes alone: on tiles the network takes colour).

Stop it and run it again as you like: a finished run and a finished measurement stay, and seeds may be run in processes
of their own. FOLDER gets results.md and cells.csv. The settings of `adapted` were chosen on 3,000 training images of
each target that were held out (docs/experiments.md); no test image was looked at for them.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import study_script
import torch
from study_script import mean_and_spread
from torch import nn

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
from barlowctl.study.students_t import quantile

FOLDER = Path(__file__).parent
RECIPE = FOLDER / "recipe.toml"
HALVES = {"source": (1, 3, 5, 7, 9), "target": (0, 2, 4, 6, 8)}
SOURCE_EPOCHS = 4
LRS = (0.03, 0.1, 0.3, 1.0)  # of the linear classifier, which is fitted three times: of one fit, chance is half a point
BANK = 10_000  # training images that vote, and that the classifier is fitted on


class Case(NamedTuple):
    """A target: the base recipe with its views, and how many epochs of it an arm has."""

    recipe: Path
    epochs: float


CASES = {"clothes": Case(RECIPE, 1.5), "tiles": Case(FOLDER / "colour.toml", 3)}
INIT = ("init.weights={source}", "init.heads=false")  # as published weights come: without a projector
SHARES = ("train.freeze_backbone_epochs={5%}", "train.warmup_epochs={10%}")  # those of recipe adapt
ARMS: Mapping[str, tuple[str, ...]] = {
    "scratch": (),
    "adapted": (*INIT, *SHARES),
    "layer-decay": (*INIT, *SHARES, "optimizer.layer_decay=0.9"),
}
WHAT = {
    "not adapted": "the source weights as they are",
    "scratch": "random weights, the base recipe",
    "adapted": "the source weights, recipe adapt's optimizer, rates and waiting",
    "layer-decay": "the same with layer decay 0.9",
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


def measure(backbone: nn.Module, recipe: Recipe, images: Mapping[str, str]) -> dict[str, float]:
    """Percent of the test images of each data set, frozen: kNN (k 20), and linear top-1, the mean of three fits."""
    preprocessing, device = preprocessing_of(recipe), torch.device("cpu")
    values = {}
    for name, data in images.items():
        bank, test = (open_images(data, split) for split in ("train", "test"))
        rows = np.sort(np.random.default_rng(0).permutation(bank.num_samples)[:BANK])
        fitted, labels = extract(backbone, bank, preprocessing, Runtime(threads=1), device, rows)
        queries, truth = extract(backbone, test, preprocessing, Runtime(threads=1), device)
        classes = 1 + int(max(labels.max(), truth.max()))
        votes = knn.knn_predict(fitted, labels, queries, k=(20,), num_classes=classes)
        values[f"{name}_knn"] = 100.0 * knn.accuracy(votes[20].scores, truth)
        fits = [
            linear_probe(fitted, labels, queries, truth, num_classes=classes, seed=seed, lrs=LRS, weight_decays=(1e-4,))
            for seed in range(3)
        ]
        values[f"{name}_linear"] = 100.0 * statistics.mean(fit.top1 for fit in fits)
    return values


def source_run(folder: Path, seed: int, data: str) -> Path:
    """The run on the source half; its folder."""
    path = folder / "cells" / "source" / f"seed-{seed}"
    path.parent.mkdir(parents=True, exist_ok=True)
    changes = [f"seed={seed}", f"data.dataset={data}", f"train.epochs={SOURCE_EPOCHS}"]
    train(load.load(str(RECIPE), changes), path)
    return path


def arm_recipe(case: Case, name: str, seed: int, data: str, source: Path) -> Recipe:
    """What an arm of `ARMS` trains."""
    shares = {f"{percent}%": f"{case.epochs * percent / 100:g}" for percent in (5, 10)}
    length = [
        f"train.epochs={case.epochs}",
        f"train.warmup_epochs={case.epochs / 6:g}",
    ]  # the base recipe's share of it
    changes = [text.format(source=source, **shares) for text in ARMS[name]]
    return load.load(str(case.recipe), [f"seed={seed}", f"data.dataset={data}", *length, *changes])


def not_adapted(folder: Path, case_name: str, seed: int, images: Mapping[str, str], source: Path) -> None:
    """Measure the source weights as an arm of the case would find them: with its channels."""
    path = folder / "cells" / case_name / "not adapted" / f"seed-{seed}"
    if not (path / "measured.json").is_file():
        recipe = arm_recipe(CASES[case_name], "adapted", seed, images["target"], source)
        job = prepare(recipe, Runtime(threads=1))
        write(path, {"case": case_name, "cell": "not adapted", "seed": seed, "cpu_seconds": 0.0}
              | measure(job.method.backbone.eval(), job.recipe, images))  # fmt: skip


def cell(folder: Path, case_name: str, name: str, seed: int, images: Mapping[str, str], source: Path) -> None:
    """Train and measure one arm."""
    path = folder / "cells" / case_name / name / f"seed-{seed}"
    path.parent.mkdir(parents=True, exist_ok=True)
    train(arm_recipe(CASES[case_name], name, seed, images["target"], source), path)
    if not (path / "measured.json").is_file():
        finished = open_run(path)
        seconds = json.loads((path / "result.json").read_text())["cpu_seconds"]
        write(path, {"case": case_name, "cell": name, "seed": seed, "cpu_seconds": seconds}
              | measure(finished.method.backbone, finished.recipe, images))  # fmt: skip


def write(path: Path, values: Mapping[str, Any]) -> None:
    """A cell's numbers, where `results` reads them."""
    path.mkdir(parents=True, exist_ok=True)
    write_text(path / "measured.json", json.dumps(values, indent=2) + "\n")
    print(json.dumps(values), flush=True)


def study(folder: Path, seeds: Iterable[int], arms: Iterable[str]) -> None:
    """Every cell that is not there yet, seed by seed."""
    halves = {half: str(path) for half, path in split_classes(folder).items()}
    images = {"clothes": halves, "tiles": {"target": "colour-tiles"}}
    for seed in seeds:
        source = source_run(folder, seed, halves["source"])
        for case_name in CASES:
            not_adapted(folder, case_name, seed, images[case_name], source)
            for name in arms:
                cell(folder, case_name, name, seed, images[case_name], source)


METRICS = {
    "target_knn": "target kNN",
    "target_linear": "target linear",
    "source_knn": "source kNN",
    "source_linear": "source linear",
}


def results(folder: Path) -> tuple[str, str]:
    """The text of results.md and of cells.csv."""
    cells = [json.loads(path.read_text()) for path in sorted(folder.glob("cells/*/*/seed-*/measured.json"))]
    lines = [
        "# Weights of one half of Fashion-MNIST's classes, adapted to the other half and to colour tiles, in numbers"
    ]
    for case_name in CASES:
        by_arm: dict[str, dict[int, Any]] = {}
        for values in (values for values in cells if values["case"] == case_name):
            by_arm.setdefault(values["cell"], {})[values["seed"]] = values
        arms = [name for name in WHAT if name in by_arm]
        if arms:
            lines += ["", f"## {case_name}", "", *_levels(by_arm, arms)]
        for base in ("not adapted", "scratch"):
            if base in by_arm:
                lines += ["", *_differences(by_arm, arms, base)]
    columns = ["case", "cell", "seed", *METRICS, "cpu_seconds"]
    return "\n".join(lines) + "\n", study_script.as_csv(columns, cells)


def _measured(by_arm: Mapping[str, Mapping[int, Any]]) -> list[str]:
    """The metrics that a case has."""
    return [key for key in METRICS if all(key in values for seeds in by_arm.values() for values in seeds.values())]


def _levels(by_arm: Mapping[str, Mapping[int, Any]], arms: Sequence[str]) -> list[str]:
    lines = ["Percent of test images, mean ± standard deviation over seeds.", ""]
    keys = _measured(by_arm)
    lines += [f"| arm | what | seeds | {' | '.join(METRICS[key] for key in keys)} | CPU seconds |"]
    lines += ["|---|---|---:|" + "---:|" * (len(keys) + 1)]
    for name in arms:
        of_seeds = list(by_arm[name].values())
        columns = [mean_and_spread([values[key] for values in of_seeds], 2) for key in keys]
        seconds = statistics.mean(values["cpu_seconds"] for values in of_seeds)
        lines.append(f"| {name} | {WHAT[name]} | {len(of_seeds)} | {' | '.join(columns)} | {seconds:.0f} |")
    return lines


def _differences(by_arm: Mapping[str, Mapping[int, Any]], arms: Sequence[str], base: str) -> list[str]:
    keys = _measured(by_arm)
    lines = [
        f"Difference to '{base}' of the same seed, in points, with half its 95 % interval (paired t over seeds).",
        "",
        f"| arm | {' | '.join(METRICS[key] for key in keys)} |",
        "|---|" + "---:|" * len(keys),
    ]
    for name in arms:
        shared = sorted(by_arm[name].keys() & by_arm[base].keys())
        if name == base or not shared:
            continue
        columns = [_paired([by_arm[name][s][key] - by_arm[base][s][key] for s in shared]) for key in keys]
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
