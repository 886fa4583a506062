"""What goes into an export, and what comes out, as plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import barlowctl
from barlowctl.model import Preprocessing


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """A trained backbone and what one must know to use it.

    Attributes:
        backbone: the timm module, (N, channels, crop, crop) float32 -> (N, features); any device.
        architecture: its timm name.
        timm_args: further arguments of `timm.create_model` it was built with (JSON values).
        stem: "default", "cifar" or "stride2" (see `barlowctl.model.backbone`).
        preprocessing: from an image to its input.
        projector: the trained projector, where there is one.
        provenance: where the weights come from, e.g. recipe, recipe_digest, run; becomes the file's metadata.
    """

    backbone: nn.Module
    architecture: str
    timm_args: Mapping[str, Any]
    stem: str
    preprocessing: Preprocessing
    projector: nn.Module | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)

    def input_of(self, pixels: Tensor) -> Tensor:
        """The backbone's input, float32 (N, channels, crop, crop), of uint8 pixels (N, crop, crop, channels)."""
        return self.preprocessing.normalization()(pixels).contiguous()

    def metadata(self) -> dict[str, str]:
        """Metadata of the safetensors files: strings only, as the format wants."""
        preprocessing = self.preprocessing
        return {
            "format": "pt",
            "architecture": self.architecture,
            "timm_args": json.dumps(dict(self.timm_args)),
            "stem": self.stem,
            "in_chans": str(preprocessing.channels),
            "input_size": str(preprocessing.crop),
            "resize": str(preprocessing.resize),
            "interpolation": preprocessing.interpolation,
            "mean": json.dumps(list(preprocessing.mean)),
            "std": json.dumps(list(preprocessing.std)),
            **{key: json.dumps(value) for key, value in preprocessing.departures().items()},
            "barlowctl": barlowctl.__version__,
            **{key: str(value) for key, value in self.provenance.items()},
        }


@dataclass(frozen=True)
class ExportReport:
    """An export that was loaded back and compared.

    Attributes:
        path: the weights file, or the folder where the format is one.
        format: one of `FORMATS`.
        max_abs_diff: largest difference between features of the loaded file and of the source, on a fixed
            batch of random images, evaluation mode; the source in float32.
        python_line: Python that loads it; the last lines leave a feature extractor in `model`.
        fine_tuning_line: Python to follow it: a new classifier of 10 classes in `model`; empty where the network
            takes none.
        files: every file written.
        notes: what the user should know about this file.
    """

    path: Path
    format: str
    max_abs_diff: float
    python_line: str = field(repr=False)
    fine_tuning_line: str = field(repr=False)
    files: tuple[Path, ...] = field(repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)
