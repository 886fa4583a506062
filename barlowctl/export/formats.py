"""The formats: which models each can hold, and the files it consists of.

timm         one .safetensors with timm's keys, no classifier
torchvision  one .safetensors with the keys of torchvision's model of the same name, no classifier unless asked for
hub          a folder with config.json and model.safetensors, as on the Hugging Face Hub; with a stem that timm has no
             argument for, also a file that teaches it to timm
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

import barlowctl
from barlowctl.errors import UserError
from barlowctl.export.exported import ExportedModel
from barlowctl.export.timm_loader import LOADER_NAME, loader_source, registered_name
from barlowctl.model import feature_width

FORMATS = ("timm", "torchvision", "hub")
# Models that timm and torchvision build alike, under one name and with the same keys.
TORCHVISION_NAMES = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2",
    "densenet121", "densenet161", "densenet169", "densenet201",
)  # fmt: skip


def check_format(model: ExportedModel, format: str) -> None:
    """Refuse a model that the format cannot express.

    Raises:
        UserError: naming the reason and a format that can.
    """
    if format not in FORMATS:
        raise UserError(f"unknown export format {format!r}", allowed=", ".join(FORMATS))
    if format == "torchvision":
        _check_torchvision(model)


def write_weights(model: ExportedModel, path: Path, format: str, *, zero_classifier: bool = False) -> tuple[Path, ...]:
    """Write the backbone under `path` (a file, or for "hub" a folder to make); returns the files."""
    weights = state_dict(model.backbone)
    match format:
        case "timm":
            save_file(weights, path, metadata=model.metadata())
            return (path,)
        case "torchvision":
            if zero_classifier:
                target = _torchvision_state(model.architecture)
                weights |= {key: torch.zeros(target[key].shape) for key in target if key not in weights}
            save_file(weights, path, metadata=model.metadata())
            return (path,)
        case "hub":
            path.mkdir()
            config = path / "config.json"
            config.write_text(json.dumps(_hub_config(model), indent=2) + "\n")
            save_file(weights, path / "model.safetensors", metadata=model.metadata())
            files = (config, path / "model.safetensors")
            if model.stem == "default":
                return files
            (path / LOADER_NAME).write_text(loader_source(model), encoding="utf-8")
            return (*files, path / LOADER_NAME)
    raise AssertionError(format)


def state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The module's state on the CPU, row-major, floating-point numbers as float32, no two sharing memory."""
    return {
        key: (value.float() if value.is_floating_point() else value)
        .detach()
        .cpu()
        .clone(memory_format=torch.contiguous_format)
        for key, value in module.state_dict().items()
    }


def format_notes(model: ExportedModel, format: str, *, zero_classifier: bool) -> tuple[str, ...]:
    """What a user of the file should know."""
    notes = [f"images it expects: {model.preprocessing}"]
    if format == "torchvision" and zero_classifier:
        notes.append("the classifier's weight and bias are zeros: barlowctl trains none")
    if format == "hub" and model.stem != "default":
        notes.append(
            f"timm has no argument for the stem {model.stem!r}: {LOADER_NAME} in the folder teaches it to timm, and "
            "must be run before the folder is loaded"
        )
    return tuple(notes)


def _hub_config(model: ExportedModel) -> dict[str, Any]:
    own: dict[str, Any] = dict(getattr(model.backbone, "pretrained_cfg", {}))
    model_args = {"in_chans": model.in_chans, **model.timm_args}
    return {
        "architecture": registered_name(model.architecture, model.stem),
        "num_classes": 0,
        "num_features": feature_width(model.backbone),
        "model_args": model_args,
        "pretrained_cfg": {
            "tag": "barlow_twins",
            "custom_load": False,
            "input_size": [model.in_chans, model.input_size, model.input_size],
            "fixed_input_size": bool(own.get("fixed_input_size", False)),
            "interpolation": model.interpolation,
            "crop_pct": model.crop_pct,
            "crop_mode": "center",
            "mean": list(model.mean),
            "std": list(model.std),
            "num_classes": 0,
            "first_conv": own.get("first_conv"),
            "classifier": own.get("classifier"),
        },
        "provenance": {key: str(value) for key, value in model.provenance.items()},
        "barlowctl": {"version": barlowctl.__version__, "architecture": model.architecture, "stem": model.stem},
    }


def _check_torchvision(model: ExportedModel) -> None:
    elsewhere = "--format timm"
    if model.architecture not in TORCHVISION_NAMES:
        raise UserError(
            f"torchvision has no model with the keys of {model.architecture!r}",
            allowed=", ".join(TORCHVISION_NAMES),
            next=elsewhere,
        )
    if model.stem != "default":
        raise UserError(
            f"the stem {model.stem!r} is not torchvision's: its models begin with a 7x7 convolution and a max-pool",
            next=elsewhere,
        )
    if model.in_chans != 3:
        raise UserError(f"torchvision's models take 3 channels and this one takes {model.in_chans}", next=elsewhere)
    target = _torchvision_state(model.architecture)
    for key, value in model.backbone.state_dict().items():
        if key not in target or target[key].shape != value.shape:
            raise UserError(
                f"{key} of shape {tuple(value.shape)} does not fit torchvision's {model.architecture}: the "
                f"backbone was built with {dict(model.timm_args)}",
                next=elsewhere,
            )


def _torchvision_state(architecture: str) -> dict[str, Tensor]:
    """Keys and shapes of torchvision's model, on the meta device."""
    with torch.device("meta"):
        return dict(torchvision.models.get_model(architecture, weights=None).state_dict())
