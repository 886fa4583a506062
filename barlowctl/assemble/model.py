"""From a recipe's model and objective to modules."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError
from barlowctl.methods import BarlowTwins, Method
from barlowctl.model import (
    Preprocessing,
    build_backbone,
    build_predictor,
    build_projector,
    check_backbone_args,
    check_input,
    feature_width,
    recompute_activations,
)
from barlowctl.recipe.schema import Recipe


def preprocessing_of(recipe: Recipe) -> Preprocessing:
    """How evaluation images become the input of the recipe's network."""
    data, views, shown = recipe.data, recipe.views, recipe.eval
    return Preprocessing(
        resize=shown.resize,
        crop=shown.crop,
        interpolation=views.interpolation,
        mean=views.mean,
        std=views.std,
        range=data.range,
        background=data.background,
        bands=data.bands,
    )


def build_recipe_backbone(recipe: Recipe) -> nn.Module:
    """The recipe's backbone with fresh weights, from torch's current generator."""
    model = recipe.model
    return build_checked_backbone(
        model.backbone,
        preprocessing_of(recipe).channels,
        {*recipe.views.sizes, recipe.eval.crop},
        stem=model.stem,
        zero_init_last=model.zero_init_last,
        arguments=model.backbone_args,
    )


def build_checked_backbone(
    name: str,
    channels: int,
    sizes: Collection[int],
    *,
    stem: str,
    zero_init_last: bool = True,
    arguments: Mapping[str, Any],
) -> nn.Module:
    """A backbone with fresh weights that takes images of all `sizes`."""
    check_backbone_args(arguments)
    backbone = build_backbone(name, in_chans=channels, stem=stem, zero_init_last=zero_init_last, **arguments)
    for size in sizes:
        check_input(backbone, size, in_chans=channels)
    return backbone


def check_views(recipe: Recipe) -> None:
    """Refuse views that the recipe's method does not compare.

    Raises:
        UserError: more than it takes.
    """
    given = len(recipe.views.sizes)
    if given != BarlowTwins.views:
        raise UserError(
            f"Barlow Twins compares {BarlowTwins.views} views of each image, and with views.small.count = "
            f"{recipe.views.small.count} there are {given}",
            allowed=f"{BarlowTwins.views} views: views.small.count = 0",
            next="--set views.small.count=0",
        )


def build_method(recipe: Recipe) -> Method:
    """The network and its objective; weights are drawn by the recipe's seed. torch's generators stay as they are."""
    with own_generator(recipe.seed):
        return draw_method(recipe)


def begin_method(recipe: Recipe, ranks: Ranks = ALONE) -> Method:
    """What `build_method` returns, over `ranks`, as training begins: torch's generators are seeded and go on from it.

    Dropout and stochastic depth of a run draw from the generator that its weights were drawn from.
    """
    torch.manual_seed(recipe.seed)
    return draw_method(recipe, ranks)


@contextmanager
def own_generator(seed: int | None = None, device: torch.device | None = None) -> Iterator[None]:
    """What is drawn inside changes nothing outside: torch's generators are afterwards as they were.

    Args:
        seed: of torch's CPU generator inside, by which weights are drawn; None: it goes on from where it is.
        device: the generator of this GPU is kept too; None: nothing is drawn on one.
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        yield


def draw_method(recipe: Recipe, ranks: Ranks = ALONE) -> Method:
    """The network and its objective with fresh weights, from torch's current generator.

    Raises:
        UserError: see `check_views`; a backbone or a projector that cannot be.
    """
    check_views(recipe)
    model, objective = recipe.model, recipe.objective
    backbone = build_recipe_backbone(recipe)
    if recipe.train.activation_checkpointing:
        recompute_activations(backbone)
    projector = build_projector(feature_width(backbone), model.projector, batch_norm=model.projector_batch_norm)
    predictor = build_predictor(model.projector[-1], model.predictor) if model.predictor else None
    return BarlowTwins(
        backbone,
        projector,
        predictor=predictor,
        stop_gradient=objective.stop_gradient,
        scale=objective.scale,
        lambd=objective.lambd,
        form=objective.form,
        terms=objective.terms,
        normalization=objective.normalization,
        criterion=objective.criterion,
        temperature=objective.temperature,
        ranks=ranks,
    )


def place(method: Method, recipe: Recipe, device: torch.device) -> Method:
    """The method on its device, in the recipe's memory format."""
    if recipe.train.channels_last:
        method.to(memory_format=torch.channels_last)
    return method.to(device)


def compile_networks(method: Method) -> None:
    """What `train.compile` asks for: the backbone and the heads are compiled at their first call."""
    for part in (method.backbone, *method.heads().values()):
        part.compile()
