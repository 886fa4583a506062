"""Format "hub": a folder as on the Hugging Face Hub, with config.json and model.safetensors.

With a stem that timm has no argument for, also a file that teaches it to timm.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import barlowctl
from barlowctl.errors import UserError
from barlowctl.exports.formats.tolerance import SUMMED_IN_ANOTHER_ORDER

if TYPE_CHECKING:
    from torch import Tensor, nn

    from barlowctl.exports.exported import ExportedModel


@dataclass(frozen=True)
class HubFolder:
    """A folder that timm loads by its name, with the preprocessing of evaluation images."""

    name: ClassVar[str] = "hub"
    summary: ClassVar[str] = "a folder as on the Hugging Face Hub"
    suffix: ClassVar[str] = ""
    tolerance: ClassVar[float] = SUMMED_IN_ANOTHER_ORDER

    def check(self, model: ExportedModel) -> None:
        """Every model fits: what timm has no argument for is taught to it by a file of the folder."""

    def write(self, model: ExportedModel, path: Path) -> tuple[Path, ...]:
        from safetensors.torch import save_file

        from barlowctl.exports.formats.timm_loader import LOADER_NAME, loader_source
        from barlowctl.exports.weights import state_dict

        path.mkdir()
        config, weights = path / "config.json", path / "model.safetensors"
        config.write_text(json.dumps(_config(model), indent=2) + "\n")
        save_file(state_dict(model.backbone), weights, metadata=model.metadata())
        if model.stem == "default":
            return (config, weights)
        (path / LOADER_NAME).write_text(loader_source(model), encoding="utf-8")
        return (config, weights, path / LOADER_NAME)

    def load_lines(self, model: ExportedModel, path: Path) -> str:
        from barlowctl.exports.formats.timm_loader import LOADER_NAME

        create = f"model = timm.create_model({f'local-dir:{path}'!r}, pretrained=True).eval()"
        if model.stem == "default":
            return f"import timm\n{create}"
        return f"import runpy, timm\nrunpy.run_path({str(path / LOADER_NAME)!r})\n{create}"

    def features(self, model: ExportedModel, loaded: nn.Module, pixels: Tensor) -> Tensor:
        features: Tensor = loaded(model.input_of(pixels))
        return features

    def fine_tuning_line(self, model: ExportedModel, classes: int) -> str:
        return f"model.reset_classifier({classes})"

    def check_loaded(self, model: ExportedModel, loaded: nn.Module) -> None:
        """timm's reading of config.json must be the preprocessing that the run was evaluated with."""
        from timm.data.config import resolve_model_data_config

        data_config, preprocessing = resolve_model_data_config(loaded), model.preprocessing
        expected = {
            "input_size": (preprocessing.channels, preprocessing.crop, preprocessing.crop),
            "mean": preprocessing.mean,
            "std": preprocessing.std,
            "interpolation": preprocessing.interpolation,
            "crop_pct": preprocessing.crop_pct,
        }
        for key, value in expected.items():
            read = tuple(data_config[key]) if isinstance(value, tuple) else data_config[key]
            if read != value:
                raise UserError(
                    f"timm reads {key} = {read} from config.json, written was {value}; nothing was written",
                    next="--format timm",
                )

    def notes(self, model: ExportedModel) -> tuple[str, ...]:
        from barlowctl.exports.formats.timm_loader import LOADER_NAME

        taught = (
            f"timm has no argument for the stem {model.stem!r}: {LOADER_NAME} in the folder teaches it to timm, and "
            "must be run before the folder is loaded"
        )
        return () if model.stem == "default" else (taught,)


def _config(model: ExportedModel) -> dict[str, Any]:
    """The content of config.json."""
    from barlowctl.exports.formats.timm_loader import registered_name
    from barlowctl.model import feature_width

    own: dict[str, Any] = dict(getattr(model.backbone, "pretrained_cfg", {}))
    preprocessing = model.preprocessing
    model_args = {"in_chans": preprocessing.channels, **model.timm_args}
    return {
        "architecture": registered_name(model.architecture, model.stem),
        "num_classes": 0,
        "num_features": feature_width(model.backbone),
        "model_args": model_args,
        "pretrained_cfg": {
            "tag": "barlow_twins",
            "custom_load": False,
            "input_size": [preprocessing.channels, preprocessing.crop, preprocessing.crop],
            "fixed_input_size": bool(own.get("fixed_input_size", False)),
            "interpolation": preprocessing.interpolation,
            "crop_pct": preprocessing.crop_pct,
            "crop_mode": "center",
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
