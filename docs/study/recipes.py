"""Every small recipe as it ships against its random backbone: `make study-recipes`, or

    python docs/study/recipes.py studies/recipes [--seeds 0,1,2] [--only RECIPE,...] [--results FOLDER]

Each recipe fashion-mnist and fashion-mnist-NAME is trained by `barlowctl pretrain --recipe RECIPE --set seed=SEED`.
Its frozen backbone, and the random one of the same seed, are measured on Fashion-MNIST's 10,000 test images: kNN
(k 20) and the fast linear classifier of `barlowctl probe`, fitted on the 60,000 training images. No recipe was chosen
on test images, but on training images that were held out.

Seed by seed, one run at a time; stop it and run it again as you like: what is finished stays. FOLDER gets results.md
and cells.csv. A recipe of your own (a .toml file) may be among RECIPE.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import study_script
from study_script import mean_and_spread

from barlowctl.assemble.data import choices_of
from barlowctl.assemble.finished import open_run
from barlowctl.assemble.labelled import open_labelled
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.model import preprocessing_of
from barlowctl.cli.app import run
from barlowctl.files import write_text
from barlowctl.measure.probing import probe
from barlowctl.measure.subjects import of_run
from barlowctl.measure.tasks import Tasks
from barlowctl.recipe import catalog
from barlowctl.study.table import margin

METRICS = {"knn": "kNN", "linear": "linear"}
COLUMNS = ("recipe", "seed", *(f"{of}_{metric}" for of in ("run", "random") for metric in METRICS))
SECONDS = ("train_cpu_seconds", "measure_cpu_seconds")
Cell = Mapping[str, Any]
OPENING = """# Every small recipe as it ships against its random backbone

Written by recipes.py; do not edit. Top-1 in percent of Fashion-MNIST's 10,000 test images, on which no recipe was
chosen: frozen features, kNN (k 20) and the fast linear classifier of `barlowctl probe`. ± is the standard deviation
over seeds; that of a difference is half its 95 % interval (Welch's t). A recipe beats its random backbone where the
difference is more than one "spread", the larger one of the two standard deviations."""


def small_recipes() -> tuple[str, ...]:
    """The recipes of Fashion-MNIST, by name."""
    return tuple(name for name in catalog.shipped() if name.startswith("fashion-mnist"))


def train(recipe: str, seed: int, path: Path) -> None:
    """A finished run in `path`; one that was stopped goes on.

    Raises:
        SystemExit: with the command's exit code, where it did not finish.
    """
    if (path / "result.json").is_file():
        return
    begin = ["--recipe", recipe, "--set", f"seed={seed}", "--out", str(path)]
    begun = (path / "recipe.toml").is_file()
    if code := run(["pretrain", *(["--resume", str(path)] if begun else begin), "--quiet"]):
        raise SystemExit(code)


def measure(path: Path) -> dict[str, float]:
    """Top-1 on test images, percent, of a run's backbone and of the random one of its seed; CPU seconds of both."""
    finished = open_run(path)
    images = open_labelled(finished.recipe.data.dataset, choices_of(preprocessing_of(finished.recipe)))
    tasks = Tasks(lidar=False)
    rows = probe(of_run(finished), images, Runtime(threads=1), tasks=tasks, baselines=("random-init",))
    values: dict[str, float] = {}
    seconds = 0.0
    for of, (_, measured) in zip(("run", "random"), rows, strict=True):
        values |= {f"{of}_{metric}": measured[metric]["top1"] for metric in METRICS}
        seconds += measured["cpu_seconds"]
    return {**values, "measure_cpu_seconds": seconds}


def study(folder: Path, seeds: Iterable[int], recipes: Sequence[str]) -> None:
    """Train and measure every cell that is not there yet, seed by seed."""
    for seed in seeds:
        for recipe in recipes:
            name = Path(recipe).stem
            path = folder / "cells" / name / f"seed-{seed}"
            out = path / "measured.json"
            if out.is_file():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            train(recipe, seed, path)
            spent = json.loads((path / "result.json").read_text(encoding="utf-8"))["cpu_seconds"]
            cell = {"recipe": name, "seed": seed, "train_cpu_seconds": spent, **measure(path)}
            write_text(out, json.dumps(cell, indent=2) + "\n")
            print(json.dumps(cell), flush=True)


def results(folder: Path) -> tuple[str, str]:
    """The text of results.md and of cells.csv."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("cells/*/seed-*/measured.json")]
    cells.sort(key=lambda cell: (cell["recipe"], cell["seed"]))
    by_recipe: dict[str, list[Cell]] = {}
    for cell in cells:
        by_recipe.setdefault(cell["recipe"], []).append(cell)
    lines = [OPENING]
    for metric, title in METRICS.items():
        lines += ["", f"## {title}", "", "| recipe | seeds | trained | random | difference | in spreads | beats it |"]
        lines += ["|---|---:|---:|---:|---:|---:|---|"]
        lines += [_row(name, of_recipe, metric) for name, of_recipe in by_recipe.items()]
    lines += ["", "## CPU seconds", "", "| recipe | training | measuring both |", "|---|---:|---:|"]
    for name, of_recipe in by_recipe.items():
        spent = (mean_and_spread([cell[key] for cell in of_recipe], 0) for key in SECONDS)
        lines.append(f"| {name} | {' | '.join(spent)} |")
    return "\n".join(lines) + "\n", study_script.as_csv([*COLUMNS, *SECONDS], cells)


def _row(name: str, cells: Sequence[Cell], metric: str) -> str:
    trained, random = ([cell[f"{of}_{metric}"] for cell in cells] for of in ("run", "random"))
    difference = statistics.mean(trained) - statistics.mean(random)
    half = margin(trained, random)
    spread = max(statistics.stdev(trained), statistics.stdev(random)) if len(cells) > 1 else None
    columns = [
        str(len(cells)),
        mean_and_spread(trained, 2),
        mean_and_spread(random, 2),
        f"{difference:+.2f}" + ("" if half is None else f" ± {half:.2f}"),
        f"{difference / spread:.1f}" if spread else "-",
        "needs two seeds" if spread is None else "yes" if difference > spread else "no",
    ]
    return f"| {name} | {' | '.join(columns)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    study_script.run(__doc__, "recipes", small_recipes(), study, results, arguments)


if __name__ == "__main__":
    main()
