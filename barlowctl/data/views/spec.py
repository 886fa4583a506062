"""The augmentation table as values: what a view of an image is. No torch, no random numbers.

Source of the defaults: Barlow Twins, appendix A, first view (the second has blur 0.1, solarize 0.2).
"""

from __future__ import annotations

from dataclasses import dataclass

from barlowctl.errors import UserError, did_you_mean

INTERPOLATIONS = ("bicubic", "bilinear")
PROBABILITIES = (
    "flip",
    "vertical_flip",
    "rotate90",
    "jitter",
    "grayscale",
    "blur",
    "solarize",
    "erase",
    "photometric",
)


@dataclass(frozen=True)
class Patch:
    """Which part of a crop a view is: the crop is resized to (grid cell, grid cell) and cut into cells, and the view
    is a window somewhere within cell `number`, counted row by row. All patches of an image are of the crop that the
    first one draws, so their views must follow one another.

    Raises:
        UserError: no such cell.
    """

    grid: int
    cell: int
    number: int

    def __post_init__(self) -> None:
        if self.grid < 1 or not 0 <= self.number < self.grid**2:
            raise UserError(f"patch {self.number} of a grid of {self.grid}", allowed=f"0 to {self.grid**2 - 1}")


@dataclass(frozen=True)
class ViewSpec:
    """A randomly distorted view: a crop resized to (size, size), then the photometric chain.

    Probabilities: flip (left and right), vertical_flip, rotate90 (by 90, 180 or 270 degrees, each as likely), jitter,
    photometric, grayscale, blur, solarize. Jitter's brightness, contrast and saturation
    are half-widths of a factor around 1, hue that of a shift around 0 in turns of the colour circle.
    With `brightness_added` the first is a shift instead, by a share of white from [-brightness, brightness].
    `blur_sigma` is in pixels of the output; `solarize_threshold` in 0..255. `photometric`: PIRL's `enhance`. `patch`:
    the view is a part of a crop that it shares. Beyond the paper's table, and off by default: `gamma` is the
    half-width of the logarithm of an exponent that jitter raises pixels in [0, 1] to; `erase` is the probability
    that a rectangle of one colour covers a share `erase_scale` of the view.

    Raises:
        UserError: a value outside its range.
    """

    size: int
    interpolation: str = "bicubic"
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    vertical_flip: float = 0.0
    rotate90: float = 0.0
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    grayscale: float = 0.2
    blur: float = 1.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0
    gamma: float = 0.0
    erase: float = 0.0
    erase_scale: tuple[float, float] = (0.05, 0.3)
    brightness_added: bool = False
    grayscale_first: bool = False
    solarize_threshold: float = 128.0
    photometric: float = 0.0
    patch: Patch | None = None

    def __post_init__(self) -> None:
        check_interpolation(self.interpolation)
        if self.size < 1:
            raise UserError(f"a view's size is {self.size}", allowed="1 or more pixels")
        if self.patch is not None and self.size > self.patch.cell:
            raise UserError(f"a patch's size is {self.size}", allowed=f"at most its cell's, {self.patch.cell} pixels")
        for name in PROBABILITIES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"a view's {name} is {getattr(self, name)}", allowed="a probability, 0 to 1")
        for name in ("crop_scale", "crop_ratio", "blur_sigma", "erase_scale"):
            low, high = getattr(self, name)
            if not 0.0 < low <= high:
                raise UserError(f"a view's {name} is ({low}, {high})", allowed="0 < first <= second")
        for name in ("crop_scale", "erase_scale"):
            if getattr(self, name)[1] > 1.0:
                raise UserError(f"a view's {name} ends at {getattr(self, name)[1]}", allowed="at most 1")
        for name in ("brightness", "contrast", "saturation", "gamma"):
            if not getattr(self, name) >= 0.0:
                raise UserError(f"a view's {name} is {getattr(self, name)}", allowed="0 or more")
        if not 0.0 <= self.hue <= 0.5:
            raise UserError(f"a view's hue is {self.hue}", allowed="0 to 0.5 turns")

    @property
    def output_size(self) -> int:
        """Side of the view, in pixels."""
        return self.size


@dataclass(frozen=True)
class CenterSpec:
    """Evaluation geometry: shorter side resized to `resize`, then the central (crop, crop).

    Raises:
        UserError: the crop does not fit.
    """

    resize: int
    crop: int
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        check_interpolation(self.interpolation)
        if not 1 <= self.crop <= self.resize:
            raise UserError(
                f"the centre crop is {self.crop} pixels of a shorter side of {self.resize}",
                allowed="1 <= crop <= resize",
            )

    @property
    def output_size(self) -> int:
        """Side of the view, in pixels."""
        return self.crop


@dataclass(frozen=True)
class SquashSpec:
    """The whole picture resized to (size, size), whatever its shape: nothing is cut away, proportions are lost.

    Raises:
        UserError: no size.
    """

    size: int
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        check_interpolation(self.interpolation)
        if self.size < 1:
            raise UserError(f"a squashed picture's size is {self.size}", allowed="1 or more pixels")

    @property
    def output_size(self) -> int:
        """Side of the view, in pixels."""
        return self.size


UndistortedSpec = CenterSpec | SquashSpec
Spec = ViewSpec | UndistortedSpec


def check_interpolation(name: str) -> None:
    """Refuse an interpolation we do not have.

    Raises:
        UserError: it is none of `INTERPOLATIONS`.
    """
    if name not in INTERPOLATIONS:
        raise UserError(
            f"interpolation '{name}' is unknown{did_you_mean(name, INTERPOLATIONS)}",
            allowed=" or ".join(INTERPOLATIONS),
        )
