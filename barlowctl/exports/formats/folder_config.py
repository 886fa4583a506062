"""config.json of a folder as on the Hugging Face Hub: timm's keys, and beside them what timm has no key for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import barlowctl
from barlowctl.exports.formats.misfit import Misfit

if TYPE_CHECKING:
    from barlowctl.exports.exported import ExportedModel
    from barlowctl.model import Preprocessing


def write_weights(model: ExportedModel, config: Mapping[str, Any], path: Path) -> tuple[Path, Path]:
    """Make the folder, with config.json and the backbone's weights under timm's keys; returns both files."""
    from barlowctl.exports.weights import save, state_dict

    path.mkdir()
    config_file, weights = path / "config.json", path / "model.safetensors"
    config_file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save(state_dict(model.backbone), weights, model.metadata())
    return config_file, weights


def timm_config(model: ExportedModel) -> dict[str, Any]:
    """The content of config.json as timm reads it."""
    from barlowctl.exports.formats.timm_loader import registered_name
    from barlowctl.model import built_for, feature_width

    own: dict[str, Any] = dict(getattr(model.backbone, "pretrained_cfg", {}))
    preprocessing = model.preprocessing
    model_args = {"in_chans": preprocessing.channels, **model.timm_args}
    width = getattr(getattr(model.backbone, "encoder", None), "out_features", 0)
    if isinstance(width, int) and width:  # timm reads it off the name of its own weights (Qwen3 and DeepSeek, merged)
        model_args = {"out_features": width, **model_args}
    fixed, side = bool(own.get("fixed_input_size", False)), built_for(model.backbone)
    if side not in (None, preprocessing.crop):  # else timm would build it for the crop
        fixed, model_args = False, {"img_size": side, **model_args}
    return {
        "architecture": registered_name(model.architecture, model.stem),
        "num_classes": 0,
        "num_features": feature_width(model.backbone),
        "model_args": model_args,
        "pretrained_cfg": {
            "tag": "barlow_twins",
            "custom_load": False,
            "input_size": [preprocessing.channels, preprocessing.crop, preprocessing.crop],
            "fixed_input_size": fixed,
            "interpolation": preprocessing.interpolation,
            "crop_pct": preprocessing.crop_pct,
            "crop_mode": preprocessing.crop_mode,
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "num_classes": 0,
            "first_conv": own.get("first_conv"),
            "classifier": own.get("classifier"),
        },
        "provenance": {key: str(value) for key, value in model.provenance.items()},
        "barlowctl": {
            "version": barlowctl.__version__,
            "architecture": model.architecture,
            "stem": model.stem,
            **preprocessing.departures(),  # what timm has no key for
        },
    }


def check_data_config(data_config: Mapping[str, Any], preprocessing: Preprocessing, library: str) -> None:
    """A library's reading of config.json must be the preprocessing that the run was evaluated with.

    Raises:
        Misfit: it is another one.
    """
    expected = {
        "input_size": (preprocessing.channels, preprocessing.crop, preprocessing.crop),
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "interpolation": preprocessing.interpolation,
        "crop_pct": preprocessing.crop_pct,
        "crop_mode": preprocessing.crop_mode,
    }
    for key, value in expected.items():
        read = tuple(data_config[key]) if isinstance(value, tuple) else data_config[key]
        if read != value:
            raise Misfit(
                f"{library} reads {key} = {read} from config.json, written was {value}; nothing was written",
                next="--format timm",
            )
