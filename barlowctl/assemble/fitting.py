"""Settings with which a network takes a recipe's images: each is tried before it is advised."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from timm import is_model, list_models
from timm.models import get_pretrained_cfg

from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe

Changes = Mapping[str, Any]
"""Dotted key of a recipe -> its value."""

SECONDS = 6.0  # of a search for what fits
_STEPS = (4, 7, 8, 14, 16, 28, 32, 48, 56, 64, 96, 128, 256)  # sides of patches and blocks, and of several beside one


def first_that_fits(recipe: Recipe, sizes: Mapping[str, int], fits: Callable[[Recipe], bool]) -> Changes | None:
    """The smallest change of the images with which a network takes them; None: there is none, or no time to find it.

    Args:
        sizes: side of every image that the network must take, by the key that says it.
    """
    colour = _of_colour(recipe, sizes, fits)
    if colour:
        recipe = changed(recipe, colour)
        if fits(recipe):
            return colour
    end = time.monotonic() + SECONDS
    near = (changes for changes in _of_images(recipe, sizes) if time.monotonic() < end)
    fitting = _first(recipe, [near, _last(recipe, sizes)], fits)
    if fitting is None:
        return None
    return {**colour, **{key: value for key, value in fitting.items() if sizes.get(key) != value}}


def pooled(recipe: Recipe, fits: Callable[[Recipe], bool]) -> Changes | None:
    """The change with which a network gives one vector for each image."""
    return _first(recipe, [_of_pooling(recipe)], fits)


def _first(
    recipe: Recipe, candidates: list[Iterator[dict[str, Any]]], fits: Callable[[Recipe], bool]
) -> Changes | None:
    for changes in (changes for several in candidates for changes in several):
        try:
            anew = changed(recipe, changes)
        except UserError:
            continue
        if fits(anew):
            return changes
    return None


def changed(recipe: Recipe, changes: Changes) -> Recipe:
    """The recipe with other values."""
    return load.override(recipe, [f"{key}={value}" for key, value in changes.items()])


def _of_colour(recipe: Recipe, sizes: Mapping[str, int], fits: Callable[[Recipe], bool]) -> Changes:
    """Images of three channels, where the network takes no others even of the size that timm's own weights are for."""
    colour = {"data.channels": 3, "views.mean": [0.5] * 3, "views.std": [0.25] * 3}
    of_timm = _of_timm(recipe, sizes)
    if recipe.data.channels == 3 or not of_timm or fits(changed(recipe, of_timm)):
        return {}
    return colour if fits(changed(recipe, {**of_timm, **colour})) else {}


def _of_images(recipe: Recipe, sizes: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """The network for images of this size; images of the nearest sizes, and a network for those."""
    model, largest = recipe.model, max(sizes.values())
    named = "img_size" not in model.backbone_args
    if named and model.image_size != largest:
        yield {"model.image_size": largest}
    near = {tuple(max(side // step + more, 1) * step for side in sizes.values()) for step in _STEPS for more in (0, 1)}
    own = tuple(sizes.values())
    for sides in sorted(near - {own}, key=lambda sides: sum(abs(a - b) / b for a, b in zip(sides, own, strict=True))):
        changes = _resized(recipe, dict(zip(sizes, sides, strict=True)))
        if not model.image_size:
            yield changes
        if named:
            yield {"model.image_size": max(sides), **changes}


def _last(recipe: Recipe, sizes: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Images of the size that timm's own weights are for; another form of the network."""
    if of_timm := _of_timm(recipe, sizes):
        yield of_timm
    yield from _of_pooling(recipe)


def _of_timm(recipe: Recipe, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Images of the size that timm's own weights are for; nothing where it has none."""
    model = recipe.model
    config = get_pretrained_cfg(model.backbone) if is_model(model.backbone) else None
    side = config.input_size[-1] if config is not None else 0
    if not side:
        return {}
    return {**_resized(recipe, dict.fromkeys(sizes, side)), **({"model.image_size": 0} if model.image_size else {})}


def _of_pooling(recipe: Recipe) -> Iterator[dict[str, Any]]:
    """The architecture's own pooling; the network that a bare encoder (`_enc`) is the trunk of; the mean."""
    model = recipe.model
    whole = model.backbone.removesuffix("_enc")
    if model.pooling != "default":
        yield {"model.pooling": "default"}
    if whole != model.backbone and whole in list_models():
        yield {"model.backbone": whole}
    if model.pooling == "default" and "global_pool" not in model.backbone_args:
        yield {"model.pooling": "avg"}


def _resized(recipe: Recipe, sides: Mapping[str, int]) -> dict[str, Any]:
    """Images of other sizes, and what evaluation's are cut out of in proportion."""
    views = {key: side for key, side in sides.items() if key != "eval.crop"}
    before, crop = recipe.eval, sides["eval.crop"]
    if crop == before.crop:
        return views
    return {**views, "eval.resize": max(round(before.resize * crop / before.crop), crop), "eval.crop": crop}
