"""What a model card says of a run: images, recipe, numbers, curves; and no path of the machine it was trained on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from barlowctl.amounts import counted
from barlowctl.assemble.finished import FinishedRun
from barlowctl.criteria import CRITERIA
from barlowctl.datasets import DATASETS
from barlowctl.plots.panels import curves
from barlowctl.quantities import QUANTITIES
from barlowctl.recipe.schema import Recipe
from barlowctl.report.model_card import ACCURACY, Result
from barlowctl.report.page import MEASURES
from barlowctl.runs import rundir
from barlowctl.runs.history import History
from barlowctl.runs.weights import HUB

_FACTS = ("model", "objective", "views", "optimizer", "length", "device")
_DRAWN = ("loss", "knn", "linear", "effective_rank")
_WITHOUT_LABELS = {
    "feature_spread": "feature spread (1: directions spread evenly, 0: collapsed)",
    "effective_rank": "effective rank of the features",
    "rankme": "RankMe, effective rank of the embeddings",
    "lidar": "LiDAR of the embeddings",
    "feature_lidar": "LiDAR of the features",
    "alpha": "alpha, decay of the features' eigenspectrum",
}
_SPLITS = ("test", "val", "validation")


@dataclass(frozen=True)
class Measurements:
    """results: of the weights that are published, and of baselines. without_labels: measure -> value.

    left_out: files of results that are of other weights, or do not say of which.
    """

    results: tuple[Result, ...]
    without_labels: Mapping[str, str]
    left_out: tuple[str, ...]


def measurements(run: Path, weights: str) -> Measurements:
    """What `probe` and `transfer` found of these weights; weights: `backbone_digest` of them."""
    results: list[Result] = []
    without_labels: dict[str, str] = {}
    left_out: list[str] = []
    for file in (*sorted(run.glob("probe-*.json")), *sorted(run.glob("transfer-*.json"))):
        measured = rundir.read_json(file)
        if measured.get("identity", {}).get("weights") != weights:
            left_out.append(file.name)
        elif "task" in measured:
            results.append(_transferred(measured))
        else:
            results += _probed(measured)
            names = {name: words for name, words in _WITHOUT_LABELS.items() if measured.get(name) is not None}
            without_labels = {words: f"{measured[name]:.4g}" for name, words in names.items()}
    return Measurements(tuple(_told_apart(results)), without_labels, tuple(left_out))


def _told_apart(results: Sequence[Result]) -> Iterator[Result]:
    """Measures made of the same images in several ways have a number behind their name, in the order they come in."""
    protocols: dict[Result, list[str]] = {}
    for result in results:
        ways = protocols.setdefault(_measure_of(result), [])
        if result.protocol not in ways:
            ways.append(result.protocol)
    for result in results:
        ways = protocols[_measure_of(result)]
        number = f", protocol {ways.index(result.protocol) + 1}" if len(ways) > 1 else ""
        yield replace(result, measure=result.measure + number)


def _measure_of(result: Result) -> Result:
    """What was measured of what, without how and what came out."""
    return replace(result, value=0.0, deviation=None, seeds=1, protocol="")


def _probed(measured: Mapping[str, Any]) -> Iterator[Result]:
    """Each measure of a probe, of the weights and of each baseline."""
    where = _measured_on(measured["data"])
    for of in (measured, *measured.get("floors", ())):
        network = None if of is measured else str(of["name"])
        for key, words in MEASURES.items():
            if key not in of or of[key].get("top1") is None:
                continue
            values = of[key]
            seeds = len(values.get("seeds", ())) or 1
            prepared = f"images of {of['resize']} pixels, the central {of['crop']}" if "resize" in of else ""
            protocol = "; ".join(part for part in (values.get("protocol", "").rstrip("."), prepared) if part)
            yield Result(
                **where, network=network, measure=words, metric=ACCURACY, value=values["top1"],
                deviation=values.get("top1_sd"), seeds=seeds, protocol=protocol,
            )  # fmt: skip


def _transferred(measured: Mapping[str, Any]) -> Result:
    seeds = measured["identity"].get("protocol", {}).get("seeds", 1)
    where = {**_measured_on(measured["data"]), "dataset": _title(measured["task"], measured["data"])}
    return Result(
        **where, network=None, measure=f"transfer to {measured['task']}", metric=measured["metric"],
        value=measured["value"], deviation=measured.get("sd"), seeds=seeds, protocol=measured["protocol"].rstrip("."),
    )  # fmt: skip


def _title(task: str, data: Mapping[str, Any]) -> str:
    return DATASETS[task].title if task in DATASETS else str(_measured_on(data)["dataset"])


def _measured_on(data: Mapping[str, Any]) -> dict[str, Any]:
    """Name, identifier, split and number of the images: of their place, its last two names alone."""
    test = data.get("test", {})
    path, images = Path(str(test.get("path", ""))), test.get("images")
    split = path.name.removesuffix(".beton")
    name = path.parent.name if split in _SPLITS else split
    known = DATASETS.get(name)
    same = known is not None and images in known.images.values()
    return {
        "dataset": known.title if known is not None and same else name,
        "hub": known.hub if known is not None and same and known.hub else _word(name),
        "split": split if split in _SPLITS else "",
        "images": images,
    }


def datasets_of(recipe: Recipe, history: History) -> tuple[str, ...]:
    """The identifier on the Hub of what it was trained on, where that is a published set of that number of images."""
    known, images = DATASETS.get(trained_on(recipe, history)), history.images
    same = known is not None and images is not None and images["images"] == known.images.get("train")
    return (known.hub,) if known is not None and same and known.hub else ()


def images_of(recipe: Recipe, history: History) -> str:
    """`digits: 1,400 images, 100 of them held out, fingerprint 0d61... (SHA-256)`: of a path the last part alone."""
    name, fingerprint = public(recipe.data.dataset), history.images
    if fingerprint is None:
        return name
    lacking = fingerprint["images"] - _usable(recipe, history, fingerprint["images"])
    parts = [counted(fingerprint["images"], "image")]
    parts += [f"{lacking:,} of them without a label and left out"] if lacking else []
    parts += [f"{held:,} of them held out"] if (held := _held_out(recipe, history)) else []
    return f"{name}: {', '.join(parts)}, fingerprint {fingerprint['digest']} (SHA-256)"


def learned_from(recipe: Recipe, history: History) -> str:
    """`1,300 of the 1,400 images of digits`: not those held out, nor, by a method that learns labels, those without."""
    fingerprint = history.images
    if fingerprint is None:
        return recipe.data.dataset
    every = fingerprint["images"]
    images = f"{counted(every, 'image')} of {recipe.data.dataset}"
    learned = _usable(recipe, history, every) - _held_out(recipe, history)
    return images if learned == every else f"{learned:,} of the {images}"


def _held_out(recipe: Recipe, history: History) -> int:
    """How many images pre-training left out; of whole groups the recipe's number is not exact."""
    return int(history.about["data"].get("held_out", recipe.data.holdout))


def _usable(recipe: Recipe, history: History, images: int) -> int:
    """How many of a run's images its method can learn from; all where an earlier version noted no labels."""
    return int(history.about["data"].get("labelled", images)) if recipe.objective.labels else images


def training(run: FinishedRun, recipe: Recipe, history: History, digest: str) -> dict[str, str]:
    """How the weights came about: label -> value. digest: of the recipe."""
    about = history.about
    facts = about.get("facts", {})
    values = {"method": recipe.objective.title, "images": images_of(recipe, history)}
    if recipe.init.weights:
        values["began with"] = f"{public(recipe.init.weights)}, sha256 {recipe.init.sha256 or 'not noted'}"
    values |= {name: str(facts[name]) for name in _FACTS if name in facts}
    of = f" of {history.total_steps:,}" if history.total_steps else ""
    values["seed"] = str(recipe.seed)
    values["weights"] = f"of step {run.step:,}{of}" + chosen(recipe, run)
    values["recipe"] = f"{recipe.name}, digest {digest}"
    values["started"] = str(about.get("started", "not noted"))
    if "wall_seconds" in history.result:
        values["took"] = f"{history.result['wall_seconds']:,.0f} s, {history.result.get('cpu_seconds', 0):,.0f} CPU-s"
    if packages := about.get("packages"):
        values["packages"] = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    return values


def chosen(recipe: Recipe, run: FinishedRun) -> str:
    """By what a state was chosen, if it was by labels of images that it may be measured on."""
    measures = {recipe.train.stop, *({recipe.train.keep_best} if not run.newest else set())} - {"off"}
    by_labels = sorted(name for name in measures if CRITERIA[name].labels)
    if not by_labels or recipe.eval.queries != "val":
        return ""
    return f"; chosen by {' and '.join(by_labels)} on images of the val split: numbers on these flatter it"


def drawn(history: History) -> Image.Image | None:
    """The curves of the training; None where nothing was recorded."""
    panels = {QUANTITIES[name].title: {history.name: points} for name in _DRAWN if (points := history.curve(name))}
    return curves(panels) if panels else None


def trained_on(recipe: Recipe, history: History) -> str:
    """The images that a run was given (`--data`), or its recipe's: a name or a path."""
    return str(history.about.get("data", {}).get("dataset") or recipe.data.dataset)


def publishable(recipe: Recipe, history: History) -> Recipe:
    """The recipe with the images it was trained on, and the last name of each place for a path of this machine."""
    data = recipe.data.model_copy(update={"dataset": public(trained_on(recipe, history))})
    init = recipe.init.model_copy(update={"weights": public(recipe.init.weights)})
    return recipe.model_copy(update={"data": data, "init": init})


def public(place: str) -> str:
    """A name as it is; of a path, which says how somebody keeps their files, the last part."""
    if place.startswith(HUB) or not re.search(r"[/\\]", place):
        return place
    parts = [part for part in re.split(r"[/\\]", place) if part not in ("", ".", "..", "~")]
    return parts[-1] if parts else place


def _word(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "images"
