"""Do measures without labels rank runs as accuracy does? Measures of a study's weights, and their rank correlations.

    python docs/study/label_free.py measure STUDY... --csv docs/study/methods/label-free.csv
    python docs/study/label_free.py correlate docs/study/label-free.csv docs/study/methods/label-free.csv

`measure` makes a row for every finished cell of the studies (folders that `barlowctl ablate` wrote) that still has its
weights, unless the file has that of the same accuracies: RankMe, LiDAR and alpha beside the accuracies in its
cell.json. `correlate` takes files with the columns variant, seed, knn, linear_top1 and any of the measures, and writes
label-free.md beside itself and the table of choosing.md. `make study` and `make study-methods` end with them.

The interval is a bootstrap's, of whole variants: seeds of one recipe are not independent of one another.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

MEASURES = {
    "lidar": "LiDAR",
    "feature_lidar": "LiDAR of the features",
    "rankme": "RankMe",
    "effective_rank": "effective rank of the features",
    "alpha": "alpha: nearness to 1",
    "feature_spread": "feature spread",
    "embedding_spread": "embedding spread",
    "mean_diagonal": "mean diagonal of C",
    "rms_off_diagonal": "off-diagonal of C (lower)",
}
ACCURACIES = {"linear_top1": "linear", "knn": "kNN"}
PAGE = Path(__file__).resolve().with_name("label-free.md")
CHOOSING = PAGE.parent.parent / "choosing.md"
SHORT = (
    "lidar", "feature_lidar", "rankme", "effective_rank", "alpha", "feature_spread", "embedding_spread", "mean_diagonal"
)  # fmt: skip
TABLE = re.compile(r"^\| measure \| \d+ runs (?:.*\n)*?(?=\n)", re.MULTILINE)
OF = {"label-free.csv": "one method", "methods/label-free.csv": "methods at one budget"}
"""What the runs of a file are of, in the table of choosing.md."""
OPENING = """# Measures without labels against accuracy

Generated from the files that are named (label_free.py); do not edit. What it says: [choosing.md](../choosing.md).

Rank correlations over runs of the measure, turned so that + is what it promises, with accuracy on test images. In
brackets are 95 % of 2,000 bootstrap draws of whole variants. Last come the accuracy of the one run that the measure
would choose, of the best run, and the median.
"""
NEAR = 5.0  # points below the best, as in generate.py
COLUMNS = ("study", "variant", "seed", *ACCURACIES, *MEASURES)
RESAMPLES = 2_000
SAMPLE = 3_000  # training images that RankMe and alpha are measured on: many times the width of features
Row = Mapping[str, str]


def score(measure: str, value: float) -> float:
    """A number that should be higher where accuracy is."""
    match measure:
        case "alpha":
            return -abs(value - 1.0)
        case "rms_off_diagonal":
            return -value
    return value


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation of the ranks; values that are equal share their mean rank."""
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def kendall(x: np.ndarray, y: np.ndarray) -> float:
    """tau-b: pairs in the same order less those in the other, over those that differ in each."""
    a, b = (np.sign(values[:, None] - values[None, :]) for values in (x, y))
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    return ranks


def interval(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    x: np.ndarray,
    y: np.ndarray,
    variants: Sequence[str],
    resamples: int,
) -> tuple[float, float]:
    """95 % of the statistic over draws of as many variants as there are, with replacement, all seeds of each."""
    random = np.random.default_rng(0)
    members = [np.flatnonzero(np.asarray(variants) == name) for name in dict.fromkeys(variants)]
    values = []
    for _ in range(resamples):
        drawn = np.concatenate([members[index] for index in random.integers(0, len(members), len(members))])
        if len(set(x[drawn])) > 1 and len(set(y[drawn])) > 1:
            values.append(statistic(x[drawn], y[drawn]))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def correlations(rows: Sequence[Row], resamples: int = RESAMPLES) -> Iterator[list[str]]:
    """A line of the table for each measure and accuracy: rank correlations, and the accuracy of the run it chooses."""
    for measure, title in MEASURES.items():
        having = [row for row in rows if row.get(measure)]
        if len({row["variant"] for row in having}) < 3:
            continue
        for accuracy, name in ACCURACIES.items():
            variants = [row["variant"] for row in having]
            x = np.array([score(measure, float(row[measure])) for row in having])
            y = np.array([float(row[accuracy]) for row in having])
            cells = [title, name, f"{len(having)} runs, {len(set(variants))} variants"]
            for statistic, draws in ((spearman, resamples), (kendall, resamples)):
                low, high = interval(statistic, x, y, variants, draws)
                cells.append(f"{statistic(x, y):+.2f} ({low:+.2f} to {high:+.2f})")
            yield [*cells, f"{y[x.argmax()]:.1f}", f"{y.max():.1f}", f"{np.median(y):.1f}"]


HEADER = (
    "measure", "accuracy", "of", "Spearman (95 %)", "Kendall (95 %)", "of the run it chooses", "of the best", "median"
)  # fmt: skip


def table(rows: Sequence[Row], resamples: int = RESAMPLES) -> str:
    """`correlations` as Markdown."""
    lines = ["| " + " | ".join(HEADER) + " |", "|---|---|---|" + "---:|" * 5]
    return "\n".join(lines + ["| " + " | ".join(cells) + " |" for cells in correlations(rows, resamples)])


def page(files: Sequence[Path], resamples: int = RESAMPLES) -> str:
    """What is written to label-free.md: the tables of all runs, and of those near the best where others are not."""
    lines = [OPENING]
    for file in files:
        rows = read(file)
        best = max(float(row["linear_top1"]) for row in rows)
        near = [row for row in rows if float(row["linear_top1"]) > best - NEAR]
        lines += [f"## {_name(file)}\n", table(rows, resamples), ""]
        if len(near) < len(rows):
            lines += [f"Of the {len(near)} runs within {NEAR:g} points of the best by linear accuracy:\n"]
            lines += [table(near, resamples), ""]
    return "\n".join(lines)


def short_table(files: Sequence[Path], resamples: int = RESAMPLES) -> str:
    """The table of choosing.md: Spearman's correlation with linear accuracy, a column a file."""
    heads, columns = [], []
    for file in files:
        rows = read(file)
        heads.append(
            f"{len(rows)} runs of {OF.get(_name(file), _name(file))}, {len({r['variant'] for r in rows})} variants"
        )
        columns.append({cells[0]: cells[3] for cells in correlations(rows, resamples) if cells[1] == "linear"})
    lines = [f"| measure | {' | '.join(heads)} |", "|---|" + "---:|" * len(files)]
    for measure in SHORT:
        cells = [column.get(MEASURES[measure], "not measured") for column in columns]
        lines.append(f"| `{measure}`{', nearness to 1' * (measure == 'alpha')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _name(file: Path) -> str:
    return Path(os.path.relpath(file.resolve(), PAGE.parent)).as_posix()


def read(file: Path) -> list[Row]:
    """The runs of a file that were measured, each with the numbers that it has."""
    if not file.is_file():
        return []
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    known = [{key: value for key, value in row.items() if value not in ("", "nan")} for row in rows]
    return [row for row in known if all(accuracy in row for accuracy in ACCURACIES)]


def write(files: Sequence[Path], resamples: int = RESAMPLES) -> None:
    """label-free.md, and the table of choosing.md."""
    PAGE.write_text(page(files, resamples), encoding="utf-8")
    text = CHOOSING.read_text(encoding="utf-8")
    text, count = TABLE.subn(lambda _: f"{short_table(files, resamples)}\n", text)
    if count != 1:
        raise SystemExit(f"'{CHOOSING}' has {count} tables that begin '| measure | N runs'")
    CHOOSING.write_text(text, encoding="utf-8")


def measure(studies: Sequence[Path], file: Path) -> None:
    """Add the cells of the studies to a file, one at a time."""
    from barlowctl.files import atomic_write
    from barlowctl.study.recorded import recorded_cells

    rows = {(row["study"], row["variant"], row["seed"]): row for row in read(file)}
    for study in studies:
        for folder in chain.from_iterable(recorded_cells(study).values()):
            cell = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
            key = (study.name, cell["variant"], str(cell["seed"]))
            measures = cell.get("measures", {})
            if any(measures.get(name) is None for name in ACCURACIES) or not any(folder.glob("checkpoints/step-*")):
                continue
            of_accuracy = {name: _number(measures[name]) for name in ACCURACIES}
            if rows.get(key, {}).items() >= of_accuracy.items():
                continue
            rows[key] = {**dict(zip(COLUMNS[:3], key, strict=True)), **_measured(folder, measures)}
            with atomic_write(file) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
                writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n", extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows[key] for key in sorted(rows, key=lambda key: (*key[:2], int(key[2]))))
            print(*key, flush=True)


def _measured(run: Path, measures: Mapping[str, float | None]) -> dict[str, str]:
    """What cell.json has, and what it lacks of the measures of the weights."""
    import torch

    from barlowctl.assemble import label_free
    from barlowctl.assemble.data import open_recipe_images
    from barlowctl.assemble.evaluation import extract
    from barlowctl.assemble.finished import open_run
    from barlowctl.assemble.machine import Runtime
    from barlowctl.assemble.model import preprocessing_of
    from barlowctl.assemble.run_images import dataset_to_measure
    from barlowctl.eval import diagnostics

    values: dict[str, float | None] = dict(measures)
    if any(values.get(key) is None for key in ("feature_lidar", "alpha")):
        opened, runtime, cpu = open_run(run), Runtime("cpu", 1, None, "auto"), torch.device("cpu")
        recipe, method = opened.recipe, opened.method
        source = open_recipe_images(recipe, "train", dataset_to_measure(run, recipe))
        sample = np.linspace(0, source.num_samples - 1, min(source.num_samples, SAMPLE)).round().astype(np.int64)
        features, _ = extract(method.backbone, source, preprocessing_of(recipe), runtime, cpu, sample)
        values["rankme"] = label_free.rankme(method, features, cpu)
        values["alpha"] = diagnostics.spectrum_decay(features)
        images, views = label_free.LIDAR_IMAGES, label_free.LIDAR_VIEWS
        values |= label_free.measure_lidar(method, source, recipe, runtime, cpu, images=images, views=views)
    return {key: _number(value) for key in (*ACCURACIES, *MEASURES) if (value := values.get(key)) is not None}


def _number(value: float) -> str:
    return f"{value:.6g}"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("studies", nargs="+", type=Path)
    measuring.add_argument("--csv", required=True, type=Path)
    correlating = commands.add_parser("correlate")
    correlating.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "measure":
        measure(options.studies, options.csv)
        return
    write(options.files)


if __name__ == "__main__":
    main(sys.argv[1:])
