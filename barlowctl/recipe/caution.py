"""What is allowed in a recipe and hardly ever meant: said in a run's first lines, with what to set."""

from __future__ import annotations

from barlowctl.datasets import IMAGENET
from barlowctl.recipe.schema import Recipe

SMALLEST_SHARE = 0.25
"""Of a square picture's area; an evaluation crop that shows less is no evaluation of the picture."""
USUAL_MARGIN = IMAGENET.resize / IMAGENET.crop
"""Shorter side over centre crop, as ImageNet is evaluated."""
SMALL, STRIDE = 96, 32
"""Pixels: pictures up to the one are evaluated whole; what networks reduce a picture by is the other."""
FROZEN_AT_RANDOM = ("patch_embed", "stem")
"""Parts that are frozen from the beginning on purpose: MoCo v3 keeps a random patch embedding (arXiv 2104.02057)."""


def cautions(recipe: Recipe) -> list[str]:
    """A sentence for each thing that somebody should look at; none for a recipe that is as recipes are."""
    geometry = of_geometry(recipe.views.size, recipe.eval.resize, recipe.eval.crop)
    return [*geometry, *of_random_weights(recipe), *of_nothing_held_out(recipe)]


def of_nothing_held_out(recipe: Recipe) -> list[str]:
    """As `cautions`, of groups to hold out where no image is."""
    if recipe.data.holdout or not recipe.data.holdout_groups:
        return []
    return ["data.holdout_groups changes nothing where data.holdout is 0; --set data.holdout=100 holds out about 100"]


def of_random_weights(recipe: Recipe) -> list[str]:
    """As `cautions`, of random weights that are kept; those of a stem, or of a patch embedding, may be."""
    train = recipe.train
    if recipe.init.weights:
        return []
    advice = "name weights to start from with --init"
    of_weights = ("heads", "partial", "normalization", "sha256")
    idle = [key for key in of_weights if getattr(recipe.init, key) != type(recipe.init).model_fields[key].default]
    if idle:
        keys, change = " and ".join(f"init.{key}" for key in idle), "changes" if len(idle) == 1 else "change"
        return [f"{keys} {change} nothing without weights; {advice}"]
    if train.freeze not in ("none", *FROZEN_AT_RANDOM):
        return [f"train.freeze = '{train.freeze}' keeps random weights as they are; {advice}"]
    if train.freeze_backbone_epochs:
        epochs = f"{train.freeze_backbone_epochs:g} epochs" if train.freeze_backbone_epochs != 1 else "epoch"
        return [f"for the first {epochs} the heads learn from a backbone of random weights; {advice}"]
    return []


def of_geometry(size: int, resize: int, crop: int) -> list[str]:
    """As `cautions`, of a network trained on views of `size` pixels that is shown the central `crop` of `resize`."""
    side = size if crop > 2 * size else max(crop, size)
    advice = f"--set eval.resize={round(side * USUAL_MARGIN)} --set eval.crop={side}"
    share = (crop / resize) ** 2  # of a square picture's area
    if share < SMALLEST_SHARE:
        return [
            f"evaluation shows the central {crop} of {resize} pixels, {_percent(share)} of a square "
            f"picture's area and less of any other; {advice} shows {_percent(USUAL_MARGIN**-2)}"
        ]
    if 2 * crop < size or crop > 2 * size:
        return [
            f"evaluation shows pictures of {crop} pixels to a network that is trained on views of {size}; "
            f"{advice} shows them at the views' size"
        ]
    return []


def of_enlargement(recipe: Recipe, side: int) -> list[str]:
    """As `cautions`, of views of images whose shorter sides are about `side` pixels: twice that shows nothing more."""
    size = recipe.views.size
    smaller = -(-side // STRIDE) * STRIDE
    if size <= 2 * side or smaller >= size:
        return []
    margin = 1.0 if smaller <= SMALL else USUAL_MARGIN
    return [
        f"views of {size} pixels enlarge images of {side} (their shorter side, the median) and cost "
        f"{(size / smaller) ** 2:.0f} times what views of {smaller} do: --set views.size={smaller} "
        f"--set eval.resize={round(smaller * margin)} --set eval.crop={smaller}"
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
