"""The authors' published files (facebookresearch/barlowtwins), read without trusting them.

resnet50.pth     the backbone's state_dict, torchvision's keys, no classifier
checkpoint.pth   {"epoch", "model": {"module.backbone.*", "module.projector.*", "module.bn.*"}, "optimizer"}
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.export.exported import ExportedModel
from barlowctl.model import build_backbone, build_projector

# The authors published a ResNet-50; the others are what their code builds with one word changed.
OFFICIAL_NAMES = ("resnet50", "resnet18", "resnet34", "resnet101", "resnet152", "wide_resnet50_2")
_LAYOUTS = (
    "the authors' resnet50.pth (a plain backbone) or checkpoint.pth (epoch, model, optimizer with "
    "module.backbone.*, module.projector.*, module.bn.*)"
)


def exclude_bias_and_norm(parameter: Tensor) -> bool:
    """Stands for the function of this name that early versions of the authors' LARS keep in param_groups."""
    return parameter.ndim == 1


def read_official(path: Path) -> ExportedModel:
    """The backbone, and the projector where the file has one, of a file the authors published.

    Preprocessing is that of their linear evaluation: resize 256 bilinear, centre crop 224, mean and std of
    ImageNet.

    Raises:
        UserError: missing, unreadable with `weights_only`, or of another layout (the message lists the keys).
    """
    path = Path(path)
    document = _load(path)
    provenance = {"source": "facebookresearch/barlowtwins", "source_file": path.name}
    if isinstance(document, Mapping) and isinstance(document.get("model"), Mapping):
        if isinstance(document.get("epoch"), int):
            provenance["epochs"] = str(document["epoch"])
        state = {str(key).removeprefix("module."): value for key, value in document["model"].items()}
        backbone, projector = _part(state, "backbone."), _part(state, "projector.")
        known = sum(key.startswith(("backbone.", "projector.", "bn.")) for key in state)
        if not backbone or known != len(state):
            raise _not_official(path, document["model"])
    elif isinstance(document, Mapping):
        backbone, projector = dict(document), {}
    else:
        raise UserError(f"{path.name} holds a {type(document).__name__}, not weights", allowed=_LAYOUTS)
    if not backbone or not all(isinstance(value, Tensor) for value in (*backbone.values(), *projector.values())):
        raise _not_official(path, document)
    name = _architecture(backbone)
    if name is None:
        raise _not_official(path, backbone)
    module = build_backbone(name, in_chans=3)
    module.load_state_dict(backbone)
    return ExportedModel(
        backbone=module,
        architecture=name,
        timm_args={},
        stem="default",
        in_chans=3,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        input_size=224,
        resize=256,
        interpolation="bilinear",
        projector=_projector(path, projector) if projector else None,
        provenance=provenance,
    )


def _load(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"there is no file {path}", allowed=_LAYOUTS)
    allowed = [(exclude_bias_and_norm, "__main__.exclude_bias_and_norm")]
    try:
        with torch.serialization.safe_globals(allowed):  # type: ignore[arg-type]
            return torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        KeyError,
        ValueError,
        AttributeError,
    ) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read as weights: {reason}", allowed=_LAYOUTS) from error


def _part(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _architecture(backbone: Mapping[str, Tensor]) -> str | None:
    """The ResNet with exactly these keys and shapes."""
    shapes = {key: value.shape for key, value in backbone.items()}
    for name in OFFICIAL_NAMES:
        with torch.device("meta"):
            module = build_backbone(name, in_chans=3)
        if {key: value.shape for key, value in module.state_dict().items()} == shapes:
            return name
    return None


def _projector(path: Path, state: Mapping[str, Tensor]) -> nn.Module:
    keys = sorted((int(key.split(".")[0]), key) for key in state if state[key].ndim == 2)
    weights = [state[key] for _, key in keys]
    if not weights:
        raise _not_official(path, state)
    batch_norm = any(key.endswith("running_mean") for key in state)
    projector = build_projector(weights[0].shape[1], [weight.shape[0] for weight in weights], batch_norm=batch_norm)
    try:
        projector.load_state_dict(dict(state))
    except RuntimeError as error:
        raise _not_official(path, state) from error
    return projector


def _not_official(path: Path, found: Mapping[Any, Any]) -> UserError:
    keys = [str(key) for key in found]
    listed = ", ".join(keys[:8]) + (f", ... ({len(keys)} keys)" if len(keys) > 8 else "")
    return UserError(f"{path.name} is not one of the authors' files; its keys: {listed or 'none'}", allowed=_LAYOUTS)
