"""A recipe's method as a module, on a backbone of its own or of the recipe's, for a training loop of one's own."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

from torch import nn

from barlowctl.amounts import counted
from barlowctl.api.arguments import checked
from barlowctl.api.process import as_a_command
from barlowctl.api.recipes import Overrides, RecipeLike, open_recipe
from barlowctl.assemble.methods import Context, check_views, choose
from barlowctl.assemble.model import build_method as build_recipe_method
from barlowctl.assemble.model import check_image_size, preprocessing_of
from barlowctl.errors import UserError
from barlowctl.generators import own_generator
from barlowctl.methods import Method
from barlowctl.model.backbone import check_width
from barlowctl.model.modules import classes_of, how_to_drop, width_of
from barlowctl.recipe.schema import Recipe


class _OtherImages(UserError):
    """A backbone does not take the recipe's images."""


@checked
def build_method(
    recipe: RecipeLike,
    *,
    backbone: nn.Module | None = None,
    overrides: Overrides | None = None,
    images: int = 65536,
    classes: int = 1000,
) -> Method:
    """The method of a recipe as a module: `forward([view, view, ...])` -> a named tuple with `loss` and its terms.

    Views are `(N, C, H, W)` float32, normalised, as many as `method.views`. A training loop of one's own calls, for
    each step, `method.before_step(progress)`, forward, backward, the optimizer, `method.after_step(progress)`, where
    progress is a 0-dimensional tensor: the share of steps that are done (momentum encoders and queues live by it).
    Gradients of `method.withheld(float(progress))` are set to None before the optimizer (SwAV's prototypes).

    Args:
        recipe: see `pretrain`; of it the sections model and objective are used, and train.epochs by SwAV.
        backbone: images -> features `(N, F)`, in place of the recipe's; not copied.
        overrides: see `pretrain`.
        images: of the training set, for a method with a memory of each (PIRL): `Targets.indices` are below it.
        classes: for objective.name = "supervised".

    Returns:
        backbone and heads, trainable, weights of the heads drawn by the recipe's seed.

    Raises:
        UserError: a recipe that cannot be, or a backbone without one vector of features for each image, with another
            `num_features` than it gives, or of timm with its classifier.
    """
    with as_a_command():
        chosen, context = open_recipe(recipe, overrides), Context(images=images, classes=classes)
        if backbone is None:
            check_image_size(chosen)
            return build_recipe_method(chosen, context)
        check_views(chosen)
        if classes := classes_of(backbone):
            raise UserError(
                f"the backbone ends in a classifier of {counted(classes, 'class', 'classes')}",
                allowed=f"one of features: {how_to_drop(backbone)}",
            )
        stated = getattr(backbone, "num_features", None)
        if not isinstance(stated, int):
            cast(Any, backbone).num_features = _width(backbone, chosen)
        else:  # timm's have it, and may be for images of another size than the recipe's
            with suppress(_OtherImages):
                check_width(backbone, _width(backbone, chosen))
        with own_generator(chosen.seed):
            return choose(chosen, backbone, context)


def _width(backbone: nn.Module, recipe: Recipe) -> int:
    """How many features a backbone has.

    Raises:
        UserError: it does not take the recipe's images, or gives no vector for each.
    """
    channels, side = preprocessing_of(recipe).channels, recipe.views.size
    return width_of(
        backbone,
        channels,
        side,
        refuse=lambda what: _OtherImages(
            f"the backbone does not take {what}",
            allowed=f"a backbone for the recipe's images, {counted(channels, 'channel')} of {side} pixels a side; or "
            "another data.channels or views.size",
        ),
    )
