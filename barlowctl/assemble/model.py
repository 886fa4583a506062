"""From a recipe's model and objective to modules. Which method it is, `methods` says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import timm
import torch
from torch import nn

from barlowctl import shell
from barlowctl.assemble.fitting import first_that_fits, pooled
from barlowctl.assemble.memory import check_networks
from barlowctl.assemble.methods import Context, check_views, choose
from barlowctl.errors import UserError
from barlowctl.generators import own_generator
from barlowctl.methods import Method
from barlowctl.model import (
    Lookups,
    OnePass,
    Preprocessing,
    Unpooled,
    WrongImages,
    build_backbone,
    check_backbone_args,
    check_input,
    check_width,
    choose_attention,
    choose_convolutions,
    choose_linears,
    choose_norms,
    frozen_modules,
    frozen_parameters,
    patch_side,
    recompute_activations,
    take_seen_pixels_first,
    takes_any_size,
    without_data,
)
from barlowctl.recipe.network import TIMM_NAMES
from barlowctl.recipe.schema import Recipe
from barlowctl.waits import Wait

SEARCHING = "searching for settings with which the network takes the images ..."


def preprocessing_of(recipe: Recipe) -> Preprocessing:
    """How evaluation images become the input of the recipe's network."""
    data, views, sizes = recipe.data, recipe.views, recipe.eval
    return Preprocessing(
        resize=sizes.resize,
        crop=sizes.crop,
        interpolation=views.interpolation,
        mean=views.mean,
        std=views.std,
        range=data.range,
        background=data.background,
        bands=data.bands,
        pooling=recipe.model.pooling,
    )


def build_recipe_backbone(recipe: Recipe, **timm_args: Any) -> nn.Module:
    """The recipe's backbone with fresh weights, from torch's current generator; `timm_args` beside its own.

    With several sizes of images, or `model.image_size`, one with position embeddings takes any size.
    """
    model = recipe.model
    try:
        return _build(recipe, timm_args)
    except WrongImages as error:
        with Wait(SEARCHING):
            fitting = first_that_fits(recipe, _sizes(recipe), _fits())
        if fitting:
            error.next = _settings(fitting)
        raise
    except Unpooled as error:
        with Wait(SEARCHING):
            fitting = pooled(recipe, _fits())
        if fitting:
            error.next = _settings(fitting)
        raise
    except UserError as error:
        for key, (argument, own) in TIMM_NAMES.items():
            if argument not in model.backbone_args and f"'{argument}'" in error.message:
                error.next = f"--set model.{key}={own}"
        raise


def _build(recipe: Recipe, timm_args: Mapping[str, Any]) -> nn.Module:
    """See `build_recipe_backbone`; errors give advice on the network alone."""
    model = recipe.model
    return build_checked_backbone(
        model.backbone,
        preprocessing_of(recipe).channels,
        _sizes(recipe).values(),
        stem=model.stem,
        zero_init_last=model.zero_init_last,
        any_size=_any_size(recipe),
        arguments={**model.timm_args, **timm_args},
    )


def _fits() -> Callable[[Recipe], bool]:
    """Whether a recipe's network takes its images; each network is built once.

    It is looked at without weights, and with them where it looks something up by an index: see `Lookups`.
    """
    built: dict[tuple[str, bool], nn.Module] = {}

    def checked(recipe: Recipe, *, weights: bool) -> nn.Module:
        key = repr((recipe.model, recipe.data.channels, _any_size(recipe))), weights
        with torch.device("cpu") if weights else without_data():
            backbone = built.get(key) or _backbone_alone(recipe, any_size=_any_size(recipe))
            built[key] = backbone
            for side in _sizes(recipe).values():
                check_input(backbone, side, in_chans=recipe.data.channels)
        return backbone

    def fits(recipe: Recipe) -> bool:
        try:
            with Lookups() as lookups:
                backbone = checked(recipe, weights=False)
            if lookups.count:
                checked(recipe, weights=True)
        except UserError:
            return False
        return not _left_out(recipe, backbone)

    return fits


def _settings(values: Mapping[str, Any]) -> str:
    """Advice to set keys of a recipe."""
    return shell.line(*(word for key, value in values.items() for word in ("--set", f"{key}={value}")))


def check_image_size(recipe: Recipe) -> None:
    """Refuse a run that begins with an image size which patches do not divide: timm leaves the rest out in silence.

    Runs that began with one still open. With timm's `dynamic_img_pad` images are padded instead.

    Raises:
        UserError: names the nearest sizes.
    """
    model = recipe.model
    if not isinstance(side := model.timm_args.get("img_size"), int):
        return
    try:
        with without_data():
            backbone = _backbone_alone(recipe)
    except UserError:  # one that cannot be is refused where it is built
        return
    patch = patch_side(backbone)
    if patch is None or not _left_out(recipe, backbone):
        return
    setting = "model.image_size" if model.image_size else "model.backbone_args.img_size"
    smaller = max(side // patch, 1) * patch
    sizes = {setting: smaller} | {
        name: max(own // patch, 1) * patch for name, own in _sizes(recipe).items() if own % patch
    }
    raise UserError(
        f"{setting} is {side}, and {model.backbone} cuts images into patches of {patch}: {side % patch} pixels of "
        "each side would be left out",
        allowed=f"multiples of {patch}; the nearest are {smaller} and {smaller + patch}",
        next=_settings(sizes),
    )


def _left_out(recipe: Recipe, backbone: Any) -> int:
    """Pixels of each side that patches leave out of images of the size that the recipe names."""
    side, patch = recipe.model.timm_args.get("img_size"), patch_side(backbone)
    if not isinstance(side, int) or patch is None or getattr(backbone.patch_embed, "dynamic_img_pad", False):
        return 0
    return side % patch


def _any_size(recipe: Recipe) -> bool:
    """Whether position embeddings must take images of several sizes, or of others than they are made for."""
    return bool(recipe.model.image_size) or len(set(_sizes(recipe).values())) > 1


def arguments_of(recipe: Recipe, backbone: nn.Module) -> dict[str, Any]:
    """Arguments of `timm.create_model` for a network that computes the features of the recipe's trained `backbone`."""
    return {**recipe.model.network_args, **({"dynamic_img_size": True} if takes_any_size(backbone) else {})}


def _sizes(recipe: Recipe) -> dict[str, int]:
    """The side of every image that the network must take, in pixels, by the key that says it."""
    views = recipe.views
    sides = {"views.size": views.size, "views.patches.window": views.patches.window}
    sides |= {"views.small.size": views.small.size} if views.small.count else {}
    return {key: side for key, side in sides.items() if side in recipe.sizes} | {"eval.crop": recipe.eval.crop}


_taken = set[tuple[Any, ...]]()
"""Networks, with sizes of images that they have taken in this process: a run builds the same one several times."""


def build_checked_backbone(
    name: str,
    channels: int,
    sizes: Collection[int],
    *,
    stem: str,
    zero_init_last: bool = True,
    any_size: bool = False,
    arguments: Mapping[str, Any],
) -> nn.Module:
    """A backbone with fresh weights that takes images of all `sizes`."""
    check_backbone_args(arguments)
    backbone = build_backbone(
        name, in_chans=channels, stem=stem, zero_init_last=zero_init_last, any_size=any_size, **arguments
    )
    built = (timm.models.model_entrypoint(name), channels, stem, any_size, repr(sorted(arguments.items())))
    for size in dict.fromkeys(sizes):
        if (*built, size) not in _taken:
            check_width(backbone, check_input(backbone, size, in_chans=channels))
            _taken.add((*built, size))
    return backbone


def build_method(recipe: Recipe, context: Context | None = None) -> Method:
    """The network and its objective; weights are drawn by the recipe's seed. torch's generators stay as they are."""
    with own_generator(recipe.seed):
        return draw_method(recipe, context)


def begin_method(recipe: Recipe, context: Context | None = None) -> Method:
    """What `build_method` returns, as training begins: torch's generators are seeded and go on from it.

    Dropout and stochastic depth of a run draw from the generator that its weights were drawn from.
    """
    torch.manual_seed(recipe.seed)
    return draw_method(recipe, context)


def draw_method(recipe: Recipe, context: Context | None = None) -> Method:
    """The network and its objective with fresh weights, from torch's current generator: the backbone's come first.

    Args:
        context: what the method has from outside of the recipe; None: where only its cost is asked.

    Raises:
        UserError: see `check_views`, `check_networks` and `choose`; a backbone that cannot be.
    """
    check_views(recipe)
    check_networks(recipe, lambda: choose(recipe, _backbone_alone(recipe), context or Context()))
    backbone = build_recipe_backbone(recipe)
    if recipe.train.activation_checkpointing:
        recompute_activations(backbone)
    return freeze(choose(recipe, backbone, context or Context()), recipe)


def _backbone_alone(recipe: Recipe, **timm_args: Any) -> nn.Module:
    """The recipe's backbone with fresh weights; it is not looked at whether it takes the recipe's images."""
    model = recipe.model
    return build_backbone(
        model.backbone, in_chans=recipe.data.channels, stem=model.stem, **model.timm_args, **timm_args
    )


def freeze(method: Method, recipe: Recipe) -> Method:
    """The method with what `train.freeze` names frozen, in the backbone and in what follows it (`Method.backbones`)."""
    train = recipe.train
    for backbone in method.backbones():
        method.freeze(frozen_modules(backbone, train.freeze), frozen_parameters(backbone, train.freeze))
    method.heads_alone = train.freeze_backbone_epochs / train.epochs
    return method


def move_to_device(
    method: Method,
    recipe: Recipe,
    device: torch.device,
    *,
    products: bool = True,
    norms: bool = True,
    one_pass: bool = True,
) -> Method:
    """The method on its device, in the recipe's memory format, its parts computed as they are fastest there.

    products: False: convolutions and Linears stay torch's own. norms: False: batch norms and global pooling do.
    one_pass: False: each view has its own pass.
    """
    if recipe.train.channels_last:
        method.to(memory_format=torch.channels_last)
    choose_attention(method, device)
    if products:
        choose_convolutions(method, device)
        choose_linears(method, device)
    elif device.type == "cpu":
        take_seen_pixels_first(method.modules())
    if norms:
        choose_norms(method, device)
    in_rows = device.type == "cpu" and recipe.train.channels_last  # as our batch norms take maps
    if one_pass and in_rows and not recipe.train.activation_checkpointing:  # which computes again later
        method.one_pass = OnePass([method.backbone, *method.heads().values()])
    return method.to(device)
