"""The authors' published files (facebookresearch/barlowtwins), read without trusting them.

resnet50.pth     the backbone's state_dict, torchvision's keys, no classifier
checkpoint.pth   {"epoch", "model": {"module.backbone.*", "module.projector.*", "module.bn.*"}, "optimizer"} of main.py,
                 or {"epoch", "model": {"module.*", "module.fc.*"}, ...} of evaluate.py

A classifier is left out, as `read_export` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from barlowctl.datasets import IMAGENET
from barlowctl.errors import UserError, kind_of
from barlowctl.exports.exported import ExportedModel
from barlowctl.exports.keys import describe_difference, without_classifier
from barlowctl.exports.torch_file import torch_load
from barlowctl.model import Preprocessing, build_backbone, build_projector, without_data

# The authors published a ResNet-50; the others are what their code builds with one word changed.
OFFICIAL_NAMES = ("resnet50", "resnet18", "resnet34", "resnet101", "resnet152", "wide_resnet50_2")
PREPROCESSING = Preprocessing(
    resize=IMAGENET.resize, crop=IMAGENET.crop, interpolation="bilinear", mean=IMAGENET.mean, std=IMAGENET.std
)
"""Of the authors' linear evaluation."""
_NEXT = "download it again from its authors"
_LAYOUTS = (
    "the authors' resnet50.pth (a plain backbone) or checkpoint.pth (epoch, model, optimizer with "
    "module.backbone.*, module.projector.*, module.bn.*)"
)


def read_official(path: Path) -> ExportedModel:
    """The backbone, and the projector where the file has one, of a file the authors published.

    Raises:
        UserError: missing, unreadable with `weights_only`, or of another layout; the message says which keys are
            missing, unknown or of another shape.
    """
    path = Path(path)
    document = torch_load(path, allowed=_LAYOUTS, next=_NEXT)
    provenance = {"source": "facebookresearch/barlowtwins", "source_file": path.name}
    if not isinstance(document, Mapping):
        raise UserError(f"'{path}' holds {kind_of(document)}, not weights", allowed=_LAYOUTS, next=_NEXT)
    published = document
    if isinstance(document.get("model"), Mapping):
        published = document["model"]
        if isinstance(document.get("epoch"), int):
            provenance["epochs"] = str(document["epoch"])
    state = {str(key).removeprefix("module."): value for key, value in published.items()}
    projector = _part(state, "projector.")
    backbone = _part(state, "backbone.") or state
    strangers = [key for key in state if not key.startswith(("backbone.", "projector.", "bn."))]
    if backbone is not state and strangers:
        raise _not_official(path, published, f"beside backbone., projector. and bn. it has {strangers[0]}")
    others = [key for key, value in (*backbone.items(), *projector.items()) if not isinstance(value, Tensor)]
    if not backbone or others:
        raise _not_official(path, published, f"{others[0]} is no tensor" if others else "it is empty")
    name, module, selected = _architecture(path, published, backbone)
    module.load_state_dict(selected)
    return ExportedModel(
        backbone=module,
        architecture=name,
        timm_args={},
        stem="default",
        preprocessing=PREPROCESSING,
        projector=_projector(path, projector) if projector else None,
        provenance=provenance,
    )


def _part(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _architecture(
    path: Path, published: Mapping[Any, Any], backbone: Mapping[str, Tensor]
) -> tuple[str, nn.Module, dict[str, Tensor]]:
    """The ResNet with exactly these keys and shapes, built, and the weights without a classifier.

    Raises:
        UserError: none has; how the nearest one differs.
    """
    nearest, difference, most = "", "", -1
    for name in OFFICIAL_NAMES:
        with without_data():
            expected = build_backbone(name, in_chans=3).state_dict()
        selected = without_classifier(expected, backbone)
        difference_of_this = describe_difference(expected, selected)
        if not difference_of_this:
            return name, build_backbone(name, in_chans=3), selected
        same_shape = [key for key, value in expected.items() if key in selected and selected[key].shape == value.shape]
        alike = len(same_shape) - len(selected)
        if not nearest or alike > most:
            nearest, difference, most = name, difference_of_this, alike
    raise _not_official(path, published, f"compared with {nearest}, the nearest, it {difference}")


def _projector(path: Path, state: Mapping[str, Tensor]) -> nn.Module:
    numbered = {key: key.split(".")[0] for key in state}
    keys = sorted((int(number), key) for key, number in numbered.items() if number.isdecimal() and state[key].ndim == 2)
    weights = [state[key] for _, key in keys]
    if not weights:
        raise _not_official(path, state, "its projector has no layers")
    batch_norm = any(key.endswith("running_mean") for key in state)
    projector = build_projector(weights[0].shape[1], [weight.shape[0] for weight in weights], batch_norm=batch_norm)
    if difference := describe_difference(projector.state_dict(), state):
        raise _not_official(path, state, f"its projector {difference}")
    projector.load_state_dict(dict(state))
    return projector


def _not_official(path: Path, published: Mapping[Any, Any], reason: str) -> UserError:
    keys = [str(key) for key in published]
    listed = ", ".join(keys[:8]) + (f", ... ({len(keys)} keys)" if len(keys) > 8 else "")
    return UserError(
        f"'{path}' is not one of the authors' files: {reason}; its keys: {listed or 'none'}",
        allowed=_LAYOUTS,
        next=_NEXT,
    )
