"""Layer-wise learning rates: the farther a layer is from the head, the smaller its rate, by timm's rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

from timm.models import group_parameters
from torch import Tensor, nn

from barlowctl import shell
from barlowctl.errors import UserError


def layer_scales(backbone: nn.Module, decay: float, *, setting: str = "optimizer.layer_decay") -> dict[str, float]:
    """Share of the learning rate for every parameter of a timm model without a classifier, by its name.

        scale of layer i = decay ** (n - i),   layers 0 (the stem) to n (the head)

    A layer is what the model's own `group_matcher` says: one block, with its downsampling. What it does not name (the
    norm behind the last block of some models) belongs to the head. What is trained on top of the backbone is the head
    too, so that the last block is one layer below it and has `decay`. These are the scales that
    `timm.optim.param_groups_layer_decay` gives the same model with a classifier. The rule is from ELECTRA (Clark et al.
    2020, arXiv 2003.10555) and, for images, BEiT (Bao et al. 2021, arXiv 2106.08254).

    `setting` is what `--set` calls the decay, for errors.

    Raises:
        UserError: `decay` is not in (0, 1], or the model does not say what its layers are.
    """
    if not 0.0 < decay <= 1.0:
        raise UserError(f"{setting} is {decay:g}", allowed="more than 0, at most 1 (1: one rate for all layers)")
    model = cast(Any, backbone)
    if not hasattr(model, "group_matcher"):
        raise UserError(
            f"{type(backbone).__name__} does not say what its layers are, so {setting} has nothing to go by",
            allowed="timm's models that have a group_matcher, such as resnet50, vit_small_patch16_224, convnext_tiny",
            next=shell.line("--set", f"{setting}=1"),
        )
    head = _head_name(model)
    names = [*(name for name, _ in backbone.named_parameters()), head]
    with_head = SimpleNamespace(named_parameters=lambda: iter([(name, None) for name in names]))
    layers = cast(
        dict[str, int], group_parameters(cast(Any, with_head), model.group_matcher(coarse=False), reverse=True)
    )
    last = max(layers.values())
    return {name: decay ** (last - layer) for name, layer in layers.items() if name != head}


def _head_name(model: Any) -> str:
    """A parameter of the classifier that the model would have: where its `group_matcher` puts it is the head."""
    classifier = getattr(model, "pretrained_cfg", {}).get("classifier") or "head"
    return f"{classifier if isinstance(classifier, str) else classifier[0]}.weight"


def split_by_layer(groups: Sequence[Mapping[str, Any]], scales: Mapping[Tensor, float]) -> list[dict[str, Any]]:
    """Groups of an optimizer, split so that all parameters of one have the same share of its learning rate.

    A group with `lr` and `peak_lr` becomes groups with both times a share, the largest share first. The share is kept
    as `lr_scale` (timm's name); the group whose share is 1 keeps its name, another one's says the share.

    Args:
        scales: parameter -> share of the rate; 1 for a parameter that is not in it.
    """
    split: list[dict[str, Any]] = []
    for group in groups:
        by_scale: dict[float, list[Tensor]] = {}
        for parameter in group["params"]:
            by_scale.setdefault(scales.get(parameter, 1.0), []).append(parameter)
        for scale in sorted(by_scale, reverse=True):
            name = group["name"] if scale == 1.0 else f"{group['name']}-x{scale:.4g}"
            rates = {"lr": group["lr"] * scale, "peak_lr": group["peak_lr"] * scale}
            split.append({**group, **rates, "name": name, "params": by_scale[scale], "lr_scale": scale})
    return split
