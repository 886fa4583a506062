"""From a recipe's data and views to a loader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from barlowctl.assemble.machine import Runtime, cores
from barlowctl.data import decode, home, sources
from barlowctl.data.batched import geometric
from barlowctl.data.beton import Beton
from barlowctl.data.conversion import Choices
from barlowctl.data.device import DeviceLoader
from barlowctl.data.loader import FastLoader, Loader
from barlowctl.data.picture import Source as Files
from barlowctl.data.plain import Pictures, PlainLoader
from barlowctl.data.sample import conversion_of
from barlowctl.data.views import CenterSpec, Spec, ViewSpec
from barlowctl.errors import UserError
from barlowctl.recipe.schema import Recipe, View

Source = Beton | Pictures


def open_source(recipe: Recipe, split: str = "train", data: str | None = None) -> Source:
    """The recipe's images (or `data`'s) of a split: a packed file, or a folder for the plain loader.

    Raises:
        UserError: there are none; the error says which command brings them.
    """
    dataset = data if data is not None else recipe.data.dataset
    path = home.resolve(dataset, split)
    source = _open_files(recipe, dataset, path, split) if path.is_dir() else Beton.open(path)
    if isinstance(source, Beton) and choices_of(recipe) != Choices():
        source.account.note("data.range, data.background and data.bands are of files; this one was packed before")
    for note in home.beside(dataset, path):
        source.account.note(note)
    return source


def choices_of(recipe: Recipe) -> Choices:
    """What a recipe says of files with more than 8 bits, transparency or many bands."""
    return Choices(recipe.data.range, recipe.data.background, recipe.data.bands)


def _open_files(recipe: Recipe, dataset: str, path: Path, split: str) -> Pictures:
    """Files as they lie; all splits of a data set have the range of its training split."""
    files = sources.open_source(path, split)
    training = None if split == "train" else lambda: sources.open_source(home.resolve(dataset, "train"), "train")
    return pictures_of(recipe, files, training)


def pictures_of(recipe: Recipe, files: Files, training: Callable[[], Files] | None = None) -> Pictures:
    """Files as they lie, converted as the recipe says; what they look like is noted in their account.

    Args:
        training: the training split, whose values have the range of all splits.
    """
    pictures = Pictures(files, conversion_of(files, choices_of(recipe), training))
    pictures.look()
    return pictures


def has_labels(source: Source) -> bool:
    """Whether any image has a label."""
    return bool((source.labels >= 0).any())


def count_classes(source: Source) -> int:
    """Number of classes: of the names where known, else the largest label + 1."""
    return max(len(source.class_names), int(source.labels.max(initial=-1)) + 1)


def describe_labels(source: Source) -> str:
    """For a run's first lines: how many classes there are, and how many images have a label."""
    labelled = int((source.labels >= 0).sum())
    if not labelled:
        return "none"
    some = "" if labelled == source.num_samples else f", on {labelled:,} of {source.num_samples:,} images"
    return f"{count_classes(source):,} classes{some}"


def explain_loader(source: Source, wanted: str) -> tuple[str, str]:
    """Which loader reads a source, and why: ("fast" | "plain", reason).

    Raises:
        UserError: an unknown loader, or the fast one wanted where it cannot be.
    """
    if wanted not in ("auto", "fast", "plain"):
        raise UserError(f"--loader is '{wanted}'", allowed="auto, fast, plain")
    decoder, reason = decode.available()
    packed = isinstance(source, Beton)
    needs_decoder = isinstance(source, Beton) and bool((source.modes == decode.JPG).any())
    if packed and (decoder or not needs_decoder):
        why = "ffcv's decoder" if needs_decoder else "uncompressed pixels"
        return ("plain", "asked for") if wanted == "plain" else ("fast", f"packed file, {why}")
    why = reason if packed else "a folder of images; `barlowctl data pack` makes a file for the fast loader"
    if wanted == "fast":
        raise UserError(
            f"--loader fast is not possible: {why}",
            allowed="a packed file, and ffcv's decoder for the JPEGs in it",
            next="barlowctl doctor\n--loader plain" if packed else "--loader plain",
        )
    return "plain", why


def build_loader(
    source: Source, specs: list[Spec], recipe: Recipe, runtime: Runtime, device: torch.device, **options: Any
) -> Loader:
    """A loader of `specs` over `source`. `options`: batch_size, drop_last, shuffle, subset.

    On a CUDA device the fast loader's threads make the crops only, and the photometric chain runs on the device.
    """
    name, _ = explain_loader(source, runtime.loader)
    workers = runtime.workers or (1 if device.type == "cpu" else cores())
    shared: dict[str, Any] = {
        "views": specs,
        "seed": recipe.seed,
        "channels": recipe.data.channels,
        "on_unreadable": recipe.data.on_unreadable,
        "pin_memory": device.type == "cuda",
        **options,
    }
    match name:
        case "fast":
            assert isinstance(source, Beton)
            if device.type != "cuda" or not any(isinstance(spec, ViewSpec) for spec in specs):
                return FastLoader(source, threads=workers, **shared)
            shared["views"] = [geometric(spec) for spec in specs]
            return DeviceLoader(
                FastLoader(source, threads=workers, **shared), specs, device, compiles=recipe.train.compile
            )
        case _:
            return PlainLoader(source, threads=0 if workers == 1 else workers, **shared)


def view_specs(recipe: Recipe) -> list[Spec]:
    """The two distorted views."""
    views = recipe.views

    def spec(view: View) -> ViewSpec:
        return ViewSpec(size=views.size, interpolation=views.interpolation, **view.model_dump())

    return [spec(views.first), spec(views.second)]


def evaluation_spec(recipe: Recipe) -> CenterSpec:
    """The one undistorted view of evaluation."""
    return CenterSpec(resize=recipe.eval.resize, crop=recipe.eval.crop, interpolation=recipe.views.interpolation)


def held_out(source: Source, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Positions kept for training and held out: a draw keyed by the seed. Sorted, int64.

    Raises:
        UserError: more images held out than there are, or fewer left than one batch.
    """
    count, holdout = source.num_samples, recipe.data.holdout
    check_holdout(count, recipe)
    order = np.random.Generator(np.random.Philox(key=recipe.seed)).permutation(count)
    return np.sort(order[holdout:]), np.sort(order[:holdout])


def check_holdout(count: int, recipe: Recipe) -> None:
    """Refuse to hold out so many of `count` images that less than a batch is left.

    Raises:
        UserError: with how many could be.
    """
    holdout = recipe.data.holdout
    if holdout >= count or count >= recipe.train.batch_size > count - holdout:
        room = count - recipe.train.batch_size
        raise UserError(
            f"data.holdout is {holdout} of {count} images, which leaves less than a batch of {recipe.train.batch_size}",
            next=f"--set data.holdout={min(count // 10, room) if room >= 0 else count // 10}",
        )
