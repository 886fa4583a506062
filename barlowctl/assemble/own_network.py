"""A run of a network that is not timm's: who registers it, and whether that has changed since the run began."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from barlowctl.errors import UserError
from barlowctl.generators import own_generator
from barlowctl.methods import Method
from barlowctl.model import registered
from barlowctl.modes import in_mode
from barlowctl.recipe.schema import Recipe
from barlowctl.runs import rundir


def check(run: Path) -> None:
    """Refuse a run of a network that somebody had registered with timm when it began, and nobody has now.

    timm may have one of that name itself: another one.

    Raises:
        UnknownNetwork: with what registers it.
    """
    about = _noted(run)
    if not about or registered.own_function(about["name"]) is not None:
        return
    module, file = about["module"], about["file"]
    place = f"{module} ({file})" if file else module
    raise registered.UnknownNetwork(
        f"the network of the run '{run}' is {about['name']!r}, which {place} registered with timm when it began",
        allowed="a Python program that registers it first; commands have timm's own networks",
        next=f"in Python: run what registers it, {file or 'as then'}; then barlowctl.load({str(run)!r})"
        if module == "__main__"
        else f"in Python: import {module}; then barlowctl.load({str(run)!r})",
    )


def note_changed(run: Path) -> tuple[str, ...]:
    """What is to be said where the file that registers the network is another one than when the run began."""
    before = _noted(run)
    now = registered.record(before["name"]) if before else {}
    if not before.get("sha256") or not now.get("sha256") or now["sha256"] == before["sha256"]:
        return ()
    return (f"the network is built by {now['file']}, which is not as it was when the run began",)


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


def _noted(run: Path) -> dict[str, str]:
    file = run / "run.json"
    about = rundir.read_json(file).get("network") if file.is_file() else None
    return about if isinstance(about, dict) and {"name", "module", "file", "sha256"} <= about.keys() else {}
