"""What goes into an export, and what comes out, as plain values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

import barlowctl


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """A trained backbone and what one must know to use it.

    Attributes:
        backbone: the timm module, (N, in_chans, input_size, input_size) float32 -> (N, features); any device.
        architecture: its timm name.
        timm_args: further arguments of `timm.create_model` it was built with (JSON values).
        stem: "default", "cifar" or "stride2" (see `barlowctl.model.backbone`).
        mean, std: of the input, per channel, of pixels in [0, 1].
        input_size, resize: evaluation images have their shorter side resized to `resize`, then the central
            square of `input_size` is cut out; in pixels.
        interpolation: "bicubic" or "bilinear", of that resize.
        projector: the trained projector, where there is one.
        provenance: where the weights come from, e.g. recipe, recipe_digest, run; becomes the file's metadata.
    """

    backbone: nn.Module
    architecture: str
    timm_args: Mapping[str, Any]
    stem: str
    in_chans: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: int
    resize: int
    interpolation: str
    projector: nn.Module | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)

    @property
    def crop_pct(self) -> float:
        """input_size / resize such that timm's floor(input_size / crop_pct) gives back `resize`."""
        share = self.input_size / self.resize
        while math.floor(self.input_size / share) < self.resize:
            share = math.nextafter(share, 0.0)
        return share

    @property
    def preprocessing(self) -> str:
        """How evaluation images become input, in one line for people."""
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return (
            f"shorter side {self.resize} pixels ({self.interpolation}), the central {self.input_size} x "
            f"{self.input_size}, {self.in_chans} {'channel' if self.in_chans == 1 else 'channels'} in [0, 1], minus "
            f"({mean}), divided by ({std})"
        )

    def metadata(self) -> dict[str, str]:
        """Metadata of the safetensors files: strings only, as the format wants."""
        return {
            "format": "pt",
            "architecture": self.architecture,
            "timm_args": json.dumps(dict(self.timm_args)),
            "stem": self.stem,
            "in_chans": str(self.in_chans),
            "input_size": str(self.input_size),
            "resize": str(self.resize),
            "interpolation": self.interpolation,
            "mean": json.dumps(list(self.mean)),
            "std": json.dumps(list(self.std)),
            "barlowctl": barlowctl.__version__,
            **{key: str(value) for key, value in self.provenance.items()},
        }


@dataclass(frozen=True)
class ExportReport:
    """An export that was loaded back and compared.

    Attributes:
        path: the weights file, or the folder of format "hub".
        format: "timm", "torchvision" or "hub".
        max_abs_diff: largest difference between features of the loaded file and of the source, on a fixed
            batch of random images, float32, evaluation mode.
        python_line: Python that loads it; the last lines leave a feature extractor in `model`.
        fine_tuning_line: Python to follow it: a new classifier of 10 classes in `model`; empty where the network
            takes none.
        files: every file written.
        notes: what the user should know about this file.
    """

    path: Path
    format: str
    max_abs_diff: float
    python_line: str
    fine_tuning_line: str
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
