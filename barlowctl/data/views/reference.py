"""The slow twin of the compiled views: one torchvision function per operation, in float, nothing rounded."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from barlowctl.data.views import draws, photometric
from barlowctl.data.views.spec import CenterSpec, Spec, SquashSpec

MODES = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}


def make_view(image: torch.Tensor, spec: Spec, parameters: draws.Draw | None) -> torch.Tensor:
    """One view of one image through torchvision's functions.

    Args:
        image: float32 (C, H, W) in [0, 1]. parameters: of a `ViewSpec`; None for the others.

    Returns:
        float32 (C, S, S) in [0, 1], not rounded.
    """
    mode = MODES[spec.interpolation]
    if isinstance(spec, CenterSpec):
        image = F.resize(image, [spec.resize], mode, antialias=True).clamp(0, 1)
        return F.center_crop(image, [spec.crop, spec.crop])
    if isinstance(spec, SquashSpec):
        return F.resize(image, [spec.size, spec.size], mode, antialias=True).clamp(0, 1)
    assert parameters is not None
    box = (parameters.top, parameters.left, parameters.height, parameters.width)
    side = spec.size if spec.patch is None else spec.patch.grid * spec.patch.cell
    image = F.resized_crop(image, *box, [side, side], mode, antialias=True).clamp(0, 1)
    if spec.patch is not None:
        image = F.crop(image, parameters.window_top, parameters.window_left, spec.size, spec.size)
    if parameters.flip:
        image = F.horizontal_flip(image)
    if parameters.vertical_flip:
        image = F.vertical_flip(image)
    image = torch.rot90(image, parameters.turns, (1, 2))
    return distort(image, parameters)


def distort(image: torch.Tensor, parameters: draws.Draw) -> torch.Tensor:
    """The photometric chain on float32 (C, S, S) in [0, 1]: jitter, `enhance`, grayscale, blur, solarise, `corrupt`.

    With `grayscale_first` grayscale comes before jitter.
    """
    gray = parameters.grayscale and image.shape[0] == 3
    if gray and parameters.grayscale_first:
        image = F.rgb_to_grayscale(image, num_output_channels=3)
    if parameters.jitter:
        adjust = (
            lambda x: (
                F.adjust_brightness(x, parameters.brightness)
                if parameters.shift == 0
                else (x + parameters.shift / 255).clamp(0, 1)
            ),
            lambda x: F.adjust_contrast(x, parameters.contrast),
            lambda x: F.adjust_saturation(x, parameters.saturation),
            lambda x: F.adjust_hue(x, parameters.hue),
        )
        for operation in photometric.ORDERS[parameters.order]:
            image = _of_grey_or_colour(adjust[operation], image)
    if parameters.autocontrast:
        image = _of_grey_or_colour(lambda x: enhance(x, parameters), image)
    if gray and not parameters.grayscale_first:
        image = F.rgb_to_grayscale(image, num_output_channels=3)
    if parameters.sigma > 0:
        radius = min(math.ceil(3 * parameters.sigma), image.shape[-1] - 1)
        if radius > 0:
            kernel = [2 * radius + 1, 2 * radius + 1]
            image = F.gaussian_blur(image, kernel, [parameters.sigma, parameters.sigma])
    if parameters.solarize and parameters.threshold <= 255:
        image = _of_grey_or_colour(lambda x: F.solarize(x, parameters.threshold / 255), image)
    return corrupt(image, parameters)


def _of_grey_or_colour(operation: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor) -> torch.Tensor:
    """An operation of torchvision's, which takes no other channels than one or three: then of each by itself."""
    return operation(image) if image.shape[0] in (1, 3) else torch.cat([operation(plane) for plane in image.split(1)])


def enhance(image: torch.Tensor, parameters: draws.Draw) -> torch.Tensor:
    """PIRL's posterise, sharpness, solarise and autocontrast; whole levels where `photometric.enhance` has them."""
    levels = (image * 255 + 0.5).to(torch.uint8)
    image = F.posterize(levels, parameters.bits).to(torch.float32) / 255
    image = F.adjust_sharpness(image, parameters.sharpness)
    if parameters.invert <= 255:
        image = F.solarize(image, (parameters.invert - 0.5) / 255)
    return F.autocontrast(image)


def corrupt(image: torch.Tensor, parameters: draws.Draw) -> torch.Tensor:
    """What goes beyond the paper's chain: gamma, then the erased rectangle."""
    if parameters.gamma != 1.0:
        # See `batched.distort`.
        image = _of_grey_or_colour(lambda x: F.adjust_gamma(x.clamp(min=0.0), parameters.gamma), image)
    if parameters.erase_height == 0:
        return image
    box = (parameters.erase_top, parameters.erase_left, parameters.erase_height, parameters.erase_width)
    drawn = parameters.erase_red, parameters.erase_green, parameters.erase_blue
    levels = [drawn[c % 3] for c in range(image.shape[0])]
    return F.erase(image, *box, torch.tensor(levels, dtype=image.dtype)[:, None, None] / 255)
