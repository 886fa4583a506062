"""Runs gathered for a report: what their directories hold, and pictures made of their images where these are here."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.torch import load_file

import barlowctl
from barlowctl.amounts import counted
from barlowctl.assemble.data import ImageSet, open_recipe_images, training_loader, view_specs
from barlowctl.assemble.machine import Runtime, choose_device
from barlowctl.assemble.run_images import changed_since_training, dataset_to_measure
from barlowctl.assemble.run_recipe import note_edited, recipe_of
from barlowctl.data.beton.reader import Beton
from barlowctl.data.loaders.plain import Pictures
from barlowctl.data.preview import preview
from barlowctl.errors import UserError
from barlowctl.eval.diagnostics import read_correlation, read_spread
from barlowctl.files import folder_made, write_text
from barlowctl.measure.embedding import embed, find_neighbours
from barlowctl.measure.subjects import open_subject
from barlowctl.output_paths import check_file, why_not_written
from barlowctl.plots import matrix
from barlowctl.recipe import load
from barlowctl.recipe.caution import cautions
from barlowctl.recipe.schema import Recipe
from barlowctl.report.page import Picture, RunPage, page
from barlowctl.runs import records, rundir
from barlowctl.runs.history import lost_records, terms_of

NEIGHBOUR_IMAGES, NEIGHBOUR_QUERIES, NEIGHBOURS = 1000, 5, 8
SMALLEST = 1e-6  # of a spectrum's largest value: what is below is rounding, or more dimensions than samples
SUMMARY = {
    "epochs": "epochs", "steps": "steps", "loss": "loss", "knn": "kNN, %", "knn_start": "kNN at the start, %",
    "effective_rank": "effective rank", "embedding_spread": "embedding spread", "mean_diagonal": "mean diagonal of C",
    "images_per_second": "images/s", "cpu_seconds": "CPU-seconds",
}  # fmt: skip
"""Values of result.json, and what the page calls them."""


def report(
    runs: Sequence[Path],
    out: Path,
    runtime: Runtime,
    *,
    data: str | None = None,
    images: bool = True,
    notify: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write one self-contained HTML page about runs.

    Args:
        data: images instead of the recipes' datasets, for previews and neighbours.
        images: whether to draw previews of the views and neighbours, which needs the images and a little time.
        notify: is told what had to be left out.

    Raises:
        UserError: not a run, or the page cannot be written.
    """
    check_file(out)
    recipes = [recipe_of(run) for run in runs]
    names = _names(runs)
    gathered = [
        _gather(run, name, recipe, runtime, data, images, notify)
        for run, name, recipe in zip(runs, names, recipes, strict=True)
    ]
    title = names[0] if len(runs) == 1 else f"{len(runs)} runs: {', '.join(names)}"
    made = f"barlowctl {barlowctl.__version__}, {time.strftime('%Y-%m-%d %H:%M')}"
    text = page(gathered, title=title, made=made, differences=_differences(recipes) + _other_images(runs))
    try:
        with folder_made(out.parent):
            write_text(out, text, errors="backslashreplace")  # paths need not be UTF-8
    except OSError as error:
        why = why_not_written(error, out.parent)
        raise UserError(f"'{out}' cannot be written: {why}", next="name another place with --out") from error
    return out


def _about(run: Path) -> dict[str, Any]:
    return rundir.read_json(run / "run.json") if (run / "run.json").is_file() else {}


def _names(runs: Sequence[Path]) -> list[str]:
    """The directories' names, with their parents where two are alike."""
    short = [run.resolve().name for run in runs]
    return [name if short.count(name) == 1 else str(run) for name, run in zip(short, runs, strict=True)]


def _differences(recipes: Sequence[Recipe]) -> list[tuple[str, list[str]]]:
    flat = [load.flatten(recipe) for recipe in recipes]
    keys = list(dict.fromkeys(key for values in flat for key in values if key not in ("name", "description")))
    rows = [(key, [str(values.get(key, "–")) for values in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def _other_images(runs: Sequence[Path]) -> list[tuple[str, list[str]]]:
    """A row of the differences, where runs are known to have been trained on other images than one another."""
    fingerprints = [rundir.fingerprint(_about(run)) for run in runs]
    texts = [
        "–" if fingerprint is None else f"{counted(fingerprint['images'], 'image')}, {fingerprint['digest'][:8]}"
        for fingerprint in fingerprints
    ]
    return (
        [("images", texts)] if len({fingerprint["digest"] for fingerprint in fingerprints if fingerprint}) > 1 else []
    )


def _gather(
    run: Path,
    name: str,
    recipe: Recipe,
    runtime: Runtime,
    data: str | None,
    images: bool,
    notify: Callable[[str], None],
) -> RunPage:
    metrics = read_metrics(run / "metrics.jsonl")
    finished = rundir.result_of(run)
    result = finished or {k: v[1][-1] for k, v in metrics.items() if v[1]}
    drawn: list[Picture] = []
    notes = [*note_edited(run, recipe), *cautions(recipe)]
    about = _about(run)
    if lost := lost_records(run, about, finished, running=rundir.is_held(run)):
        notes.append(lost)
        notify(f"{name}: {lost}")
    readings: list[str] = []
    spectra: dict[str, list[float]] = {}
    spectrum_files = sorted((run / "diagnostics").glob("step-*.safetensors"))
    for file in spectrum_files[:1] + spectrum_files[1:][-1:]:  # the first and the last
        saved = load_file(file)
        if "block" in saved:
            step = int(file.stem.removeprefix("step-"))
            drawn.append(_block(saved["block"].numpy(), recipe.model.projector[-1], step))
        for key in saved.keys() & {"singular_values", "eigenvalues"}:  # the last file's remain
            values = saved[key].tolist()
            spectra[key] = [value for value in values if value > SMALLEST * max(values)]
    readings += [f"Since the start: {result['since_start']}."] if "since_start" in result else []
    readings += _readings(recipe, {key: values[-1] for key, (_, values) in metrics.items()})
    if images:
        try:
            drawn += _of_images(run, recipe, runtime, data, notes)
        except UserError as error:
            notes.append(f"no previews or neighbours: {error.message}")
            notify(f"{name}: no previews or neighbours: {error.message}")
    metadata = {**about.get("facts", {}), **{key: str(about[key]) for key in ("command", "started") if key in about}}
    if "packages" in about:
        metadata["packages"] = ", ".join(f"{key} {value}" for key, value in about["packages"].items())
    return RunPage(
        name=name,
        status="finished" if finished else "not finished",
        summary={heading: _plain(result[key]) for key, heading in SUMMARY.items() if key in result},
        metadata=metadata,
        recipe=load.dump(recipe),
        metrics=metrics,
        terms=terms_of(about),
        singular_values=spectra.get("singular_values", ()),
        eigenvalues=spectra.get("eigenvalues", ()),
        probes=[rundir.read_json(file) for file in sorted(run.glob("probe-*.json"))],
        transfers=[rundir.read_json(file) for file in sorted(run.glob("transfer-*.json"))],
        pictures=[*drawn, *_confusions(run)],
        readings=readings,
        notes=notes,
    )


def _readings(recipe: Recipe, last: Mapping[str, float]) -> list[str]:
    """What the newest diagnostics say, in sentences."""
    of_c = ("mean_diagonal", "rms_off_diagonal", "effective_rank")
    if recipe.objective.decorrelates and all(key in last for key in of_c):
        return [read_correlation(*(last[key] for key in of_c))]
    spreads = (("embeddings", "embedding_spread"), ("features", "feature_spread"))
    messages = [read_spread(last[key], what) for what, key in spreads if key in last]
    return [text for text in messages if text]


def read_metrics(path: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Each metric of a metrics.jsonl by name: steps and values. Lines that are no whole record are skipped."""
    series: dict[str, tuple[list[float], list[float]]] = {}
    for record in records.read(path):
        if record.get("event") == "epoch":
            continue  # means of what the steps say
        for key, value in record.items():
            if key not in ("event", "step", "epoch") and isinstance(value, int | float):
                steps, values = series.setdefault(key, ([], []))
                steps.append(record["step"])
                values.append(float(value))
    return series


def _block(block: np.ndarray, width: int, step: int) -> Picture:
    image = matrix.heat_map(block, low=-1, high=1, diverging=True)
    caption = f"red 1, white 0, blue −1; the first {len(block)} of {width} dimensions, at step {step}"
    return Picture("Cross-correlation matrix C", caption, image)


def _of_images(run: Path, recipe: Recipe, runtime: Runtime, data: str | None, notes: list[str]) -> list[Picture]:
    """Views as the network sees them, and nearest neighbours of a few test images (or training images).

    notes: gets what the reader should know of the images.
    """
    device = choose_device(runtime.device)
    data = dataset_to_measure(run, recipe) if data is None else data
    train = open_recipe_images(recipe, "train", data)
    notes += changed_since_training(run, train)

    def loader_of(indices: np.ndarray) -> Any:
        choice: dict[str, Any] = {
            "batch_size": len(indices),
            "shuffle": False,
            "subset": indices,
            "on_unreadable": "skip",
        }
        return training_loader(train, recipe, runtime, device, **choice)

    with tempfile.TemporaryDirectory() as folder:
        drawn = preview(
            train, view_specs(recipe), Path(folder) / "views.png", samples=6, seed=recipe.seed, make_loader=loader_of
        )
        with Image.open(drawn.path) as opened:
            views = opened.convert("RGB")
        pictures = [Picture("Views", "originals and their distorted views of epoch 0", views, words=True)]
        try:
            split, source = "test", open_recipe_images(recipe, "test", data)
        except UserError:
            split, source = "train", train
        neighbours = _neighbours(run, source, split, runtime)
        caption = (
            f"of {split} images among {NEIGHBOUR_IMAGES} of them at most, cosine similarity; the first is the query"
        )
        return [*pictures, Picture("Nearest neighbours", caption, neighbours, words=True)]


class _Some(Pictures):
    """Some images of a source, evenly spread, for the plain loader."""

    def __init__(self, source: ImageSet, count: int) -> None:
        self._all = source
        self._chosen = np.linspace(0, source.num_samples - 1, min(count, source.num_samples)).round().astype(int)
        self.path, self.num_samples = source.path, len(self._chosen)
        self.labels = np.asarray(source.labels)[self._chosen]
        self.class_names = list(source.class_names)
        self.scan_report = source.scan_report
        if isinstance(source, Pictures):
            self.conversion = source.conversion

    def name_of(self, index: int) -> str:
        position = int(self._chosen[index])
        named = not isinstance(self._all, Beton) or self._all.has_names
        return self._all.name_of(position) if named else f"image {position}"

    @property
    def stored_channels(self) -> int:
        return self._all.stored_channels

    def image(self, index: int) -> np.ndarray:
        pixels: np.ndarray = self._all.image(int(self._chosen[index]))
        return pixels


def _neighbours(run: Path, source: ImageSet, split: str, runtime: Runtime) -> Image.Image:
    subject, some = open_subject(str(run)), _Some(source, NEIGHBOUR_IMAGES)
    embeddings = embed(subject, some, split, runtime, on_unreadable="skip")
    step = max(1, len(embeddings.names) // NEIGHBOUR_QUERIES)
    rows = range(step // 2, len(embeddings.names), step)
    queries = [str(embeddings.position_of(row)) for row in rows][:NEIGHBOUR_QUERIES]
    picture, _ = find_neighbours(subject, some, embeddings, queries, runtime, top=NEIGHBOURS)
    return picture.convert("RGB")


def _confusions(run: Path) -> list[Picture]:
    """The confusion of the linear probe of each dataset, where it was drawn and is not too large."""
    pictures = []
    for file in sorted(run.glob("probe-*/linear-confusion.png")):
        with Image.open(file) as opened:
            caption = f"linear probe on {file.parent.name.removeprefix('probe-')}"
            pictures.append(Picture("Confusion", caption, opened.convert("RGB"), words=True))
    return pictures


def _plain(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
