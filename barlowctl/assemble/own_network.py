"""A run of a network that is not timm's: whether training reaches all of it."""

from __future__ import annotations

import torch
from torch import Tensor

from barlowctl.errors import UserError
from barlowctl.generators import own_generator
from barlowctl.methods import Method
from barlowctl.model import registered
from barlowctl.modes import in_mode
from barlowctl.recipe.schema import Recipe


def note_untrained(recipe: Recipe, method: Method) -> tuple[str, ...]:
    """What is to be said of parameters of somebody's network that training would leave as they were drawn.

    Raises:
        UserError: it would leave all of them.
    """
    if registered.own_function(recipe.model.backbone) is None:
        return ()
    backbone = method.backbone
    name = type(backbone).__name__
    trained = {path: weight for path, weight in backbone.named_parameters() if weight.requires_grad}
    features = _features(method, recipe)
    if not features.requires_grad and (trained or recipe.train.freeze == "none"):
        raise UserError(
            f"no gradient reaches a parameter of {name}: its features have none, so that training would leave it as it "
            "was drawn",
            allowed="a forward without torch.no_grad(), .detach() and .data, of parameters that require a gradient",
            next="mend its forward, or leave the backbone as it is: --set train.freeze=backbone",
        )
    gradients = torch.autograd.grad(features.sum(), list(trained.values()), allow_unused=True) if trained else ()
    without = [path for path, gradient in zip(trained, gradients, strict=True) if gradient is None]
    if not without:
        return ()
    paths = ", ".join(without[:3]) + (", ..." if len(without) > 3 else "")
    return (f"no gradient reaches {len(without)} of the {len(trained)} parameters of {name}: {paths}",)


def _features(method: Method, recipe: Recipe) -> Tensor:
    """Of one black image, with their graph; the network's statistics and modes stay as they are."""
    weight = next(iter(method.parameters()))
    side = recipe.views.size
    drawn = own_generator(recipe.seed, weight.device)
    with drawn, in_mode(method.backbone, training=False) as backbone, torch.enable_grad():
        features: Tensor = backbone(torch.zeros(1, recipe.data.channels, side, side, device=weight.device))
    return features
