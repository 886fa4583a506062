"""Sections of a recipe that say how images are distorted: the paper's table, small views, patches."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from barlowctl.datasets import IMAGENET
from barlowctl.recipe.initial import for_channels
from barlowctl.recipe.section import (
    Divisor,
    DoesNotFit,
    Factor,
    Mean,
    Positive,
    Probability,
    Ratio,
    Section,
    Sigma,
    in_list,
)


class View(Section):
    """One view's distortions. Defaults: the first view of the paper's table."""

    crop_scale: tuple[Positive, Positive] = Field((0.08, 1.0), description="share of the image's area")
    crop_ratio: tuple[Ratio, Ratio] = Field((0.75, 4 / 3), description="width / height")
    flip: Probability = Field(0.5, description="probability of a horizontal flip")
    vertical_flip: Probability = Field(0.0, description="beyond the paper: probability of a vertical flip")
    rotate90: Probability = Field(
        0.0, description="beyond the paper: probability of a turn by 90, 180 or 270 degrees, each as likely"
    )
    jitter: Probability = Field(0.8, description="probability of colour jitter")
    brightness: Factor = Field(0.4, description="factor from [1 - x, 1 + x]")
    brightness_added: bool = Field(
        False, description="brightness adds a share of white from [-x, x] instead (BYOL, SimCLR's first version)"
    )
    contrast: Factor = Field(0.4, description="factor from [1 - x, 1 + x]")
    saturation: Factor = Field(0.2, description="factor from [1 - x, 1 + x]")
    hue: Annotated[float, Field(ge=0.0, le=0.5)] = Field(
        0.1, description="shift from [-x, x], in turns of the colour circle"
    )
    grayscale: Probability = Field(0.2, description="probability of conversion to grey")
    grayscale_first: bool = Field(False, description="conversion to grey comes before jitter (MoCo v1), not after it")
    blur: Probability = Field(1.0, description="probability of a Gaussian blur")
    blur_sigma: tuple[Sigma, Sigma] = Field((0.1, 2.0), description="range of sigma, in output pixels")
    solarize: Probability = Field(0.0, description="probability of solarisation")
    solarize_threshold: Annotated[float, Field(ge=0.0, le=256.0)] = Field(
        128.0, description="values from here to 255 are inverted"
    )
    gamma: Annotated[float, Field(ge=0.0, le=10.0)] = Field(
        0.0, description="beyond the paper: jitter also raises pixels in [0, 1] to the power exp(u), u from [-x, x]"
    )
    erase: Probability = Field(0.0, description="beyond the paper: probability that one rectangle is erased")
    erase_scale: tuple[Positive, Positive] = Field((0.05, 0.3), description="share of the view that is erased")

    @model_validator(mode="after")
    def _ordered(self) -> View:
        for key in ("crop_scale", "crop_ratio", "blur_sigma", "erase_scale"):
            low, high = getattr(self, key)
            if low > high:
                message = f"{key} is [{low}, {high}]: the first number must not exceed the second"
                raise DoesNotFit(message, (f".{key}={in_list((high, low))}",))
        for key, what in (
            ("crop_scale", "a crop has at most the image's"),
            ("erase_scale", "a rectangle has at most the view's"),
        ):
            low, high = getattr(self, key)
            if high > 1.0:
                change = f".{key}={in_list((min(low, 1.0), 1.0))}"
                raise DoesNotFit(f"{key} ends at {high}: {what} area, 1.0", (change,))
        return self


Side = Annotated[int, Field(ge=8, le=1024)]


class SmallViews(View):
    """Small views beside the first two, all alike. Crops as SwAV's `multicropdataset.py` has them, and its blur."""

    count: Annotated[int, Field(ge=0, le=32)] = Field(0, description="small views of each image; 0: none")
    size: Side = Field(96, description="side of a small view, in pixels")
    crop_scale: tuple[Positive, Positive] = Field((0.05, 0.14), description="share of the image's area")
    blur: Probability = Field(0.5, description="probability of a Gaussian blur")


class Patches(View):
    """Patches of one crop, in which PIRL's jigsaw is put: drawn for methods that take them, and for no others.

    Defaults: the table of PIRL's code (`pirl_jigsaw_4node_resnet50.yaml` and `img_pil_to_patches_and_image.py` of
    vissl). Each patch has distortions of its own; `crop_scale` and `crop_ratio` are those of the crop they share.
    """

    grid: Annotated[int, Field(ge=2, le=8)] = Field(3, description="patches in a row, and rows of them")
    cell: Side = Field(85, description="the crop is resized to grid x cell pixels and cut into cells of this side")
    window: Side = Field(64, description="side of a patch, anywhere within its cell, in pixels")
    crop_scale: tuple[Positive, Positive] = Field((0.6, 1.0), description="share of the image's area")
    jitter: Probability = Field(1.0, description="probability of colour jitter")
    saturation: Factor = Field(0.4, description="factor from [1 - x, 1 + x]")
    hue: Annotated[float, Field(ge=0.0, le=0.5)] = Field(
        0.2, description="shift from [-x, x], in turns of the colour circle"
    )
    blur: Probability = Field(0.0, description="probability of a Gaussian blur")
    photometric: Probability = Field(
        0.66, description="probability of all of: posterise, sharpness, solarise, autocontrast (see docs/loader.md)"
    )

    @model_validator(mode="after")
    def _window_fits(self) -> Patches:
        if self.window > self.cell:
            message = f"window is {self.window}, larger than cell {self.cell}"
            raise DoesNotFit(message, (f".cell={self.window}",), (f".window={self.cell}",))
        return self

    @property
    def count(self) -> int:
        """Patches of each image."""
        return self.grid**2


class Views(Section):
    """The distorted views of each image: two, and small ones or patches beside them where there are any."""

    size: Side = Field(224, description="side of the first two views, in pixels")
    interpolation: Literal["bicubic", "bilinear"] = Field("bicubic", description="how crops are resized, antialiased")
    mean: tuple[Mean, ...] = Field(IMAGENET.mean, description="per channel, of pixels in [0, 1]")
    std: tuple[Divisor, ...] = Field(IMAGENET.std, description="per channel, of pixels in [0, 1]")
    first: View = View()
    second: View = View(blur=0.1, solarize=0.2)
    small: SmallViews = SmallViews()
    patches: Patches = Patches()

    def changes_for(self, channels: int) -> tuple[str, ...]:
        """`views.mean=...`, `views.std=...` of an input with so many channels, each where it is of another number."""
        own = {key: getattr(self, key) or type(self).model_fields[key].default for key in ("mean", "std")}
        return tuple(
            f"views.{key}={in_list(for_channels(values, channels))}"
            for key, values in own.items()
            if len(getattr(self, key)) != channels
        )

    def listed(self, full: int = 2, *, patches: bool = False) -> list[tuple[int, View]]:
        """Every view of an image, in the order of their numbers: side in pixels and distortions.

        Full views come first, then small ones, then patches, row by row.

        Args:
            full: 1: the first one alone. patches: whether there are any.
        """
        small, pieces = self.small, self.patches
        views: list[tuple[int, View]] = [(self.size, view) for view in (self.first, self.second)[:full]]
        views += [(small.size, small)] * small.count
        return views + ([(pieces.window, pieces)] * pieces.count if patches else [])

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without small views and patches that nobody set: text and digest are those from before there were any."""
        values: dict[str, Any] = write(self)
        for key, untouched in (("small", SmallViews()), ("patches", Patches())):
            if getattr(self, key) == untouched:
                values.pop(key, None)
        return values
