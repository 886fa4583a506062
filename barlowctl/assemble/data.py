"""From a recipe's data and views to a loader."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from barlowctl.amounts import counted
from barlowctl.assemble.image_channels import check_channels
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.model import preprocessing_of
from barlowctl.channels import MOST_CHANNELS, are_bands, stored_as
from barlowctl.cores import usable_cores
from barlowctl.data import home, sources
from barlowctl.data.beton import decode, decoders
from barlowctl.data.beton.reader import Beton
from barlowctl.data.images.conversion import Choices, Conversion
from barlowctl.data.loaders.base import ViewLoader
from barlowctl.data.loaders.device import DeviceLoader
from barlowctl.data.loaders.fast import FastLoader
from barlowctl.data.loaders.plain import Pictures, PlainLoader
from barlowctl.data.sources.in_memory import InMemory
from barlowctl.data.sources.items import Items
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.sample import conversion_of
from barlowctl.data.views.batched import geometric
from barlowctl.data.views.spec import CenterSpec, Patch, Spec, SquashSpec, UndistortedSpec, ViewSpec
from barlowctl.errors import UserError, instead
from barlowctl.model import Preprocessing
from barlowctl.recipe.schema import Recipe
from barlowctl.recipe.views import Patches, View

ImageSet = Beton | Pictures


def open_recipe_images(recipe: Recipe, split: str = "train", data: str | InMemory | None = None) -> ImageSet:
    """The recipe's images (or `data`'s) of a split, of the recipe's channels. See `open_images`."""
    named = recipe.data.dataset if data is None else data
    source = open_images(named, split, choices_of(preprocessing_of(recipe)))
    name = named.title if isinstance(named, InMemory) else named
    check_channels(recipe, source, name, isinstance(named, InMemory) or isinstance(source, Beton))
    return source


def open_images(dataset: str | InMemory, split: str = "train", choices: Choices | None = None) -> ImageSet:
    """The images of a data set's split: a packed file, or a folder for the plain loader.

    Args:
        dataset: a name in the data home, or a path; or what a program has in hand.
        choices: how files become 8-bit pixels.

    Raises:
        UserError: there are none; the error says which command brings them.
    """
    choices = choices or Choices()
    if isinstance(dataset, InMemory):
        return _open_in_memory(choices, dataset, split)
    path = home.resolve(dataset, split)
    source = _open_files(choices, dataset, path, split) if path.is_dir() else Beton.open(path)
    if isinstance(source, Beton) and choices not in (Choices(), choices_as_read(source)):
        source.scan_report.note("data.range, data.background and data.bands are of files; this one was packed before")
    for note in home.beside(dataset, path):
        source.scan_report.note(note)
    return source


def choices_as_read(source: ImageSet) -> Choices:
    """The choices that make of other files what the images of `source` became when they were read or packed."""
    if not isinstance(source, Beton):
        return source.conversion.for_others()
    noted = source.info.get("conversion")
    return Conversion.noted(noted).for_others() if noted else Choices()


def choices_of(preprocessing: Preprocessing) -> Choices:
    """What is said of files with more than 8 bits, transparency or many bands."""
    return Choices(preprocessing.range, preprocessing.background, preprocessing.bands)


def _open_files(choices: Choices, dataset: str, path: Path, split: str) -> Pictures:
    """Source as they lie; all splits of a data set have the range of its training split."""
    files = sources.open_source(path, split)
    training = None if split == "train" else lambda: sources.open_source(home.resolve(dataset, "train"), "train")
    return pictures_of(choices, files, training)


def _open_in_memory(choices: Choices, dataset: InMemory, split: str) -> Pictures:
    items = dataset.open(split)
    return pictures_of(of_bands(items, choices), items, None if split == "train" else lambda: dataset.open("train"))


def of_bands(items: Items, choices: Choices) -> Choices:
    """The choices, with all bands of arrays that have others than grey and colours where none are chosen.

    Raises:
        UserError: none are chosen, and images have other numbers of them.
    """
    counts = items.channels
    if not choices.channels and len({stored_as(count) for count in counts}) > 1:
        raise UserError(
            f"{items.title}: images of {' and of '.join(map(str, sorted(counts)))} channels",
            allowed="one number of channels; grey images among coloured ones are fine",
        )
    if choices.channels or len(counts) != 1 or not are_bands(count := next(iter(counts))) or count > MOST_CHANNELS:
        return choices
    return replace(choices, bands=tuple(range(1, count + 1)))


def pictures_of(choices: Choices, files: Source, training: Callable[[], Source] | None = None) -> Pictures:
    """Source as they lie, converted by `choices`; what they look like is noted in their report.

    Args:
        training: the training split, whose values have the range of all splits.
    """
    pictures = Pictures(files, conversion_of(files, choices, training))
    pictures.look()
    return pictures


def any_labelled(source: ImageSet) -> bool:
    """Whether any image has a label."""
    return bool((source.labels >= 0).any())


def count_classes(source: ImageSet) -> int:
    """Number of classes: of the names where known, else the largest label + 1."""
    return max(len(source.class_names), int(source.labels.max(initial=-1)) + 1)


def describe_labels(source: ImageSet) -> str:
    """For a run's first lines: how many classes there are, and how many images have a label."""
    labelled = int((source.labels >= 0).sum())
    if not labelled:
        return "none"
    some = "" if labelled == source.num_samples else f", on {labelled:,} of {counted(source.num_samples, 'image')}"
    return f"{counted(count_classes(source), 'class', 'classes')}{some}"


@dataclass(frozen=True)
class LoaderChoice:
    """Which loader reads a source, and why."""

    name: Literal["fast", "plain"]
    why: str

    def __str__(self) -> str:
        return f"{self.name} ({self.why})"


def choose_loader(source: ImageSet, requested: str) -> LoaderChoice:
    """The loader of a source.

    Raises:
        UserError: an unknown loader, or the fast one wanted where it cannot be.
    """
    if requested not in ("auto", "fast", "plain"):
        raise UserError(
            f"--loader is '{requested}'",
            allowed="auto, fast, plain",
            next=instead("--loader", requested, ("auto", "fast", "plain")),
        )
    decoder = decoders.chosen()
    packed = isinstance(source, Beton)
    needs_decoder = isinstance(source, Beton) and bool((source.modes == decode.JPG).any())
    if packed and (decoder or not needs_decoder):
        why = f"{decoder.package}'s decoder" if decoder and needs_decoder else "uncompressed pixels"
        return (
            LoaderChoice("plain", "asked for") if requested == "plain" else LoaderChoice("fast", f"packed file, {why}")
        )
    images = "images in memory" if isinstance(source, Pictures) and source.in_memory else "a folder of images"
    why = decoders.why_none() if packed else f"{images}; `barlowctl data pack` makes a file for the fast loader"
    if requested == "fast":
        raise UserError(
            f"--loader fast is not possible: {why}",
            allowed="a packed file, and a decoder for the JPEGs in it",
            next="barlowctl doctor\n--loader plain" if packed else "--loader plain",
        )
    return LoaderChoice("plain", why)


def training_loader(
    source: ImageSet,
    recipe: Recipe,
    runtime: Runtime,
    device: torch.device,
    *,
    specs: list[Spec] | None = None,
    **options: Any,
) -> ViewLoader:
    """A loader of the recipe's distorted views over `source`.

    Args:
        specs: the first of these views; None: all. options: those of `build_loader`.
    """
    settled: dict[str, Any] = {
        "seed": recipe.seed,
        "on_unreadable": recipe.data.on_unreadable,
        "compiles": recipe.train.compile,
        **options,
    }
    channels = preprocessing_of(recipe).channels
    return build_loader(source, specs or view_specs(recipe), channels, runtime, device, **settled)


def build_loader(
    source: ImageSet,
    specs: list[Spec],
    channels: int,
    runtime: Runtime,
    device: torch.device,
    *,
    seed: int = 0,
    choice: LoaderChoice | None = None,
    compiles: bool = False,
    **options: Any,
) -> ViewLoader:
    """A loader of `specs` over `source`. `options`: those of the loaders (batch_size, shuffle, subset, ...).

    On a CUDA device the fast loader's threads make the crops only, and the photometric chain runs on the device.

    Args:
        seed: of the order and the distortions; undistorted views in order have neither.
        choice: where it was made already. compiles: the photometric chain on the device, where that is faster.
    """
    workers = runtime.workers or (1 if device.type == "cpu" else usable_cores())
    shared: dict[str, Any] = {
        "views": specs,
        "channels": channels,
        "seed": seed,
        "pin_memory": device.type == "cuda",
        **options,
    }
    match (choice or choose_loader(source, runtime.loader)).name:
        case "fast":
            assert isinstance(source, Beton)
            if device.type != "cuda" or not any(isinstance(spec, ViewSpec) for spec in specs):
                return FastLoader(source, threads=workers, **shared)
            shared["views"] = [geometric(spec) for spec in specs]
            return DeviceLoader(FastLoader(source, threads=workers, **shared), specs, device, compiles=compiles)
        case _:
            return PlainLoader(source, threads=0 if workers == 1 else workers, **shared)


def view_specs(recipe: Recipe) -> list[Spec]:
    """The distorted views of each image that the method takes, in the order of their numbers (`Recipe.drawn`)."""
    distortions, specs = {*View.model_fields, "photometric"}, list[Spec]()
    numbers = itertools.count()
    for size, view in recipe.drawn():
        patch = Patch(view.grid, view.cell, next(numbers)) if isinstance(view, Patches) else None
        values = view.model_dump(include=distortions)
        specs.append(ViewSpec(size=size, interpolation=recipe.views.interpolation, patch=patch, **values))
    return specs


def evaluation_spec(preprocessing: Preprocessing) -> UndistortedSpec:
    """The one undistorted view of evaluation."""
    if preprocessing.squash:
        return SquashSpec(preprocessing.crop, preprocessing.interpolation)
    return CenterSpec(resize=preprocessing.resize, crop=preprocessing.crop, interpolation=preprocessing.interpolation)
