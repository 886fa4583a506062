"""How an image becomes a network's input, as one value: kept with a run and an export, read by all that measures.

It is in `model`, and not in `data` or `recipe`, since it belongs to the weights: an export has it and no recipe, and
`export` knows `model` alone. From a recipe it is made by `assemble.model.preprocessing_of`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

from barlowctl.channels import in_words
from barlowctl.errors import UserError
from barlowctl.model.normalize import InputNormalization

Interpolation = Literal["bicubic", "bilinear"]
BITS = 8
"""Of a pixel as our loaders give it."""


def interpolation_of(name: str) -> Interpolation:
    """Ours for a name of timm's: "bicubic", or the nearest to it that we have."""
    return "bicubic" if name == "bicubic" else "bilinear"


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From a file, or the pixels of a packed one, to a network's input, and from its last map to its features.

    Attributes:
        resize, crop: the shorter side is resized to `resize` pixels, then the central square of `crop` is cut out.
        interpolation: of that resize.
        mean, std: per channel, of pixels in [0, 1]; there are as many channels as numbers.
        squash: the whole picture is resized to a square of `crop` instead, whatever its shape.
        bits: of a pixel: black is 0 and white `2 ** bits - 1`.
        pooling: how tokens or the last map become one vector, in timm's words ("token", "avg", ...); "default": as the
            architecture has it. It says nothing of images, but features depend on it as on these.
        range, background, bands: of files with more bits, transparency or more bands (see `data.conversion.Choices`).

    Raises:
        UserError: no channels, unequally many numbers, a crop that does not fit, or pixels that we do not read.
    """

    resize: int
    crop: int
    interpolation: Interpolation
    mean: tuple[float, ...]
    std: tuple[float, ...]
    squash: bool = False
    bits: int = BITS
    range: str = "auto"
    background: str = "white"
    bands: tuple[int, ...] = ()
    pooling: str = "default"

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std):
            raise UserError(
                f"mean has {len(self.mean)} numbers and std has {len(self.std)}", allowed="one of each per channel"
            )
        if not 1 <= self.crop <= self.resize and not self.squash:
            raise UserError(
                f"the centre crop is {self.crop} pixels of a shorter side of {self.resize}",
                allowed="1 <= crop <= resize",
            )
        if self.bits != BITS:
            raise UserError(f"the network takes pixels of {self.bits} bits", allowed=f"{BITS} bits")

    @property
    def channels(self) -> int:
        """Of the network's input: 1 for grey, 3 for RGB."""
        return len(self.mean)

    @property
    def crop_pct(self) -> float:
        """crop / resize such that timm's floor(crop / crop_pct) gives back `resize`; 1 of a squashed picture."""
        if self.squash:
            return 1.0
        share = self.crop / self.resize
        while math.floor(self.crop / share) < self.resize:
            share = math.nextafter(share, 0.0)
        return share

    @property
    def crop_mode(self) -> str:
        """In timm's words: "squash" resizes both sides by themselves, "center" the shorter one."""
        return "squash" if self.squash else "center"

    def normalization(self) -> InputNormalization:
        """Pixels `(N, H, W, channels)` to the network's input `(N, channels, H, W)`."""
        return InputNormalization(self.mean, self.std)

    def as_result(self) -> dict[str, Any]:
        """How a picture was shown, for a result."""
        geometry = {"resize": self.resize, "crop": self.crop, "interpolation": self.interpolation}
        return {**geometry, **self.departures("pooling")}

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values: what a run keeps, and what a measurement's identity depends on.

        `squash`, `bits` and `pooling` are left out at their defaults: results from before they were values keep their
        identity.
        """
        return {
            **self.as_result(),
            "channels": self.channels,
            "range": self.range,
            "background": self.background,
            "bands": list(self.bands),
            "mean": list(self.mean),
            "std": list(self.std),
            **self.departures("squash", "bits"),
        }

    def departures(self, *names: str) -> dict[str, Any]:
        """The named values (none named: all that have a default) that differ from their defaults, as JSON values."""
        changed = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.default is not MISSING and (not names or field.name in names)
            if getattr(self, field.name) != field.default
        }
        return {key: list(value) if isinstance(value, tuple) else value for key, value in changed.items()}

    @classmethod
    def of_timm(cls, config: Mapping[str, Any]) -> Preprocessing:
        """From timm's configuration of a network: `input_size`, how it is cropped, `interpolation`, `mean`, `std`.

        Deviation: timm can cut the margin off squashed pictures (a `crop_pct` below 1); those keep their shape here, as
        `unlike_timm` says.
        """
        size = config["input_size"][-1]
        return cls(
            resize=int(size / config["crop_pct"]),
            crop=size,
            interpolation=interpolation_of(config["interpolation"]),
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            squash=config.get("crop_mode") == "squash" and config["crop_pct"] == 1,
        )

    def __str__(self) -> str:
        """In one line for people."""
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        geometry = f"shorter side {self.resize} pixels ({self.interpolation}), the central {self.crop} x {self.crop}"
        if self.squash:
            geometry = f"whole pictures squashed to {self.crop} x {self.crop} ({self.interpolation})"
        bands = [f"{'bands' if len(self.bands) > 1 else 'band'} {in_words(self.bands)}"] if self.bands else []
        values = [f"values {self.range}"] if self.range != "auto" else []
        of_files = f" ({', '.join([*bands, *values])} of the files)" if bands or values else ""
        return (
            f"{geometry}, {self.channels} {'channel' if self.channels == 1 else 'channels'}{of_files} in [0, 1], minus "
            f"({mean}), divided by ({std})"
        )


def unlike_timm(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Where `Preprocessing.of_timm` departs from what timm's configuration says, for people; most often nowhere."""
    size, mode = config["input_size"][-1], config.get("crop_mode")
    larger = int(size / config["crop_pct"])
    if (mode == "squash" and larger > size) or mode == "border":
        theirs = f"squashes them to {larger} x {larger} first" if mode == "squash" else "adds borders to them"
        return (
            f"pictures that are not square: timm {theirs} for this network, here the central {size} x {size} of a "
            f"shorter side of {larger} pixels is shown",
        )
    return ()
