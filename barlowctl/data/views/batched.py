"""The photometric chain on a whole batch in torch, each image with its own parameters: for GPUs.

The draws are those of the compiled chain (`photometric`), so a view looks the same wherever it is distorted;
the slow twin of both is `reference.distort`. All that decides shapes is known on the host, so nothing here waits
for the device: the images that a rare operation concerns are gathered by index lists made from the draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from barlowctl.data.views.parameters import Parameters
from barlowctl.data.views.spec import Spec, ViewSpec

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # jitter's operations, as in `photometric.ORDERS`
LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601 as in `photometric`
SMOOTH = (1.0, 1.0, 1.0, 1.0, 5.0, 1.0, 1.0, 1.0, 1.0)  # Pillow's, of which sharpness is the reverse, before / 13


def geometric(spec: Spec) -> Spec:
    """The same view without its photometric chain: what is left for the CPU when a device runs the chain."""
    if not isinstance(spec, ViewSpec):
        return spec
    return replace(spec, jitter=0.0, photometric=0.0, grayscale=0.0, blur=0.0, solarize=0.0, gamma=0.0, erase=0.0)


def distort(images: Tensor, parameters: Parameters, operations: Operations | None = None) -> Tensor:
    """Jitter, PIRL's enhancements, grayscale (first of all with `grayscale_first`), blur, solarise; gamma and erasing.

    Args:
        images: float32 (N, C, H, W) in 0..255, on any device; overwritten.
        parameters: of these N images.
        operations: `compiled` ones; None: as torch runs them, one after another.

    Returns:
        float32 (N, C, H, W) in 0..255; may be `images`.
    """
    assert len(images) == len(parameters)
    operations = operations or Operations()
    grays = images.shape[1] == 3 and bool(parameters.grayscale.any())
    if grays and parameters.grayscale_first:
        to_gray(images, parameters)
    if parameters.jitter.any():
        images = jitter(images, parameters, operations)
    if parameters.autocontrast.any():
        chosen = _where(parameters.autocontrast, images)
        images[chosen] = enhance(images[chosen], parameters)
    if grays and not parameters.grayscale_first:
        to_gray(images, parameters)
    if (parameters.sigma > 0).any():
        chosen = _where(parameters.sigma > 0, images)
        images[chosen] = gaussian_blur(images[chosen], parameters, operations)
    if parameters.solarize.any():
        chosen = _where(parameters.solarize, images)
        images[chosen] = solarize(images[chosen], parameters.threshold)
    if (parameters.gamma != 1.0).any():
        # White that was blurred may be a rounding above white, and inverted below black, which has no power.
        images = images.div_(255.0).clamp_(min=0.0).pow_(_column(parameters.gamma, images)).mul_(255.0)
    if (parameters.erased[:, 2] > 0).any():
        images = erase(images, parameters)
    return images


def to_gray(images: Tensor, parameters: Parameters) -> None:
    """Convert those images (N, 3, H, W) to grey that are drawn for it, in place."""
    chosen = _where(parameters.grayscale, images)
    images[chosen] = luma(images[chosen]).expand(-1, 3, -1, -1)


def erase(images: Tensor, parameters: Parameters) -> Tensor:
    """Each image's rectangle gets its colour; a rectangle of height 0 covers nothing."""
    top, left, height, width = (_column(column, images) for column in parameters.erased.T)
    y = torch.arange(images.shape[2], device=images.device).view(1, 1, -1, 1)
    x = torch.arange(images.shape[3], device=images.device).view(1, 1, 1, -1)
    inside = (y >= top) & (y < top + height) & (x >= left) & (x < left + width)
    channels = images.shape[1]
    colour = torch.cat([_column(parameters.levels[:, c % 3], images) for c in range(channels)], dim=1)
    return torch.where(inside, colour, images)


def jitter(images: Tensor, parameters: Parameters, operations: Operations) -> Tensor:
    """Colour jitter, its four operations in each image's own order.

    At each of the four steps one pass of `blend` serves all images. A step at which an image turns its hue (or is
    not jittered) has factor 1 for it.
    """
    colour = images.shape[1] == 3
    for step in range(4):
        operation = np.where(parameters.jitter, parameters.steps[:, step], -1)
        factors = parameters.factors[np.arange(len(operation)), operation]
        blended = (operation == BRIGHTNESS) | (operation == CONTRAST) | ((operation == SATURATION) & colour)
        factor = _column(np.where(blended, factors, 1.0), images)
        contrast = _column(operation == CONTRAST, images)
        saturation = _column((operation == SATURATION) & colour, images)
        images = operations.blend(images, factor, contrast, saturation)
        shifted = (operation == BRIGHTNESS) & (parameters.shift != 0.0)
        if shifted.any():
            chosen = _where(shifted, images)
            images[chosen] = (images[chosen] + _column(parameters.shift[shifted], images)).clamp_(0.0, 255.0)
        turned = operation == HUE
        if colour and turned.any():
            chosen = _where(turned, images)
            images[chosen] = operations.turn_hue(images[chosen], _column(factors[turned], images))
    return images


def blend(images: Tensor, factor: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Brightness, contrast or saturation of (N, C, H, W): clamp(factor x + (1 - factor) base).

    The base is 0, the mean of the grey image where `contrast` is 1 (of other channels than three each one's own), the
    grey pixel where `saturation` is 1; all three are (N, 1, 1, 1).
    """
    grey = luma(images) if images.shape[1] == 3 else images
    rest = 1.0 - factor
    base = contrast * rest * grey.mean(dim=(2, 3), keepdim=True)
    if images.shape[1] == 3:
        base = base + saturation * rest * grey
    return torch.addcmul(base, images, factor).clamp_(0.0, 255.0)


def luma(images: Tensor) -> Tensor:
    """The grey image, (N, 1, H, W)."""
    red, green, blue = images.unbind(1)
    return torch.add(LUMA[0] * red, green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2]).unsqueeze(1)


def turn_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of (N, 3, H, W) by `shift` turns (N, 1, 1, 1), through HSV as `photometric.adjust_hue`."""
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    chroma = value - images.amin(1)
    inverse = torch.where(chroma > 0, chroma, 1.0).reciprocal_()
    hue = torch.where(green == value, 2.0 + (blue - red) * inverse, 4.0 + (red - green) * inverse)
    hue = torch.where(red == value, (green - blue) * inverse, hue) + 6.0 * shift[:, 0]
    channels = []
    for offset in (5.0, 3.0, 1.0):
        k = torch.remainder(hue + offset, 6.0)
        channels.append(value - chroma * torch.minimum(k, 4.0 - k).clamp_(0.0, 1.0))
    return torch.stack(channels, 1)


def enhance(images: Tensor, parameters: Parameters) -> Tensor:
    """Those images (N, C, H, W) that are drawn for it: see `photometric.enhance`."""
    bits, sharpness, threshold = (
        _column(values[parameters.autocontrast], images)
        for values in (parameters.bits, parameters.sharpness, parameters.invert)
    )
    step = torch.exp2(8.0 - bits)
    images = torch.floor(torch.floor(images + 0.5) / step) * step
    if min(images.shape[2:]) > 2:
        weights = bring(np.array(SMOOTH, np.float32), images).view(1, 1, 3, 3).expand(images.shape[1], 1, 3, 3)
        # Whole levels and weights: exact in TF32, too, which cuDNN may take.
        smooth = torch.nn.functional.conv2d(images, weights, groups=images.shape[1]) / 13.0
        inside = images[:, :, 1:-1, 1:-1]
        inside.copy_((sharpness * inside + (1.0 - sharpness) * smooth).clamp_(0.0, 255.0))
    images = torch.where(images >= threshold - 0.5, 255.0 - images, images)
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    scale = 255.0 / torch.where(high > low, high - low, 1.0)
    return torch.where(high > low, ((images - low) * scale).clamp_(0.0, 255.0), images)


def gaussian_blur(images: Tensor, parameters: Parameters, operations: Operations) -> Tensor:
    """Separable Gaussian blur of those images (N, C, H, W) that have a sigma, radius ceil(3 sigma), borders mirrored.

    A radius is at most the side less 1, as in `photometric.gaussian_weights`.
    """
    sigma = parameters.sigma[parameters.sigma > 0]
    for axis in (2, 3):
        weights = half_kernels(sigma, images.shape[axis], parameters.largest_sigma)
        if weights.shape[1] > 1:
            images = operations.convolve(images, bring(weights, images), axis)
    return images


def convolve(images: Tensor, weights: Tensor, axis: int) -> Tensor:
    """(N, C, H, W) along axis 2 or 3 with image n's symmetric kernel, weights (N, radius + 1) from its middle on."""
    radius, length = weights.shape[1] - 1, images.shape[axis]
    padding = (radius, radius, 0, 0) if axis == 3 else (0, 0, radius, radius)
    padded = torch.nn.functional.pad(images, padding, mode="reflect")
    column = weights[:, :, None, None, None]
    images = padded.narrow(axis, radius, length) * column[:, 0]
    for k in range(1, radius + 1):
        pair = padded.narrow(axis, radius - k, length) + padded.narrow(axis, radius + k, length)
        images.addcmul_(pair, column[:, k])
    return images


@dataclass(frozen=True)
class Operations:
    """The costly arithmetic of the chain: functions of tensors alone, which a compiler can have."""

    blend: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = blend
    turn_hue: Callable[[Tensor, Tensor], Tensor] = turn_hue
    convolve: Callable[[Tensor, Tensor, int], Tensor] = convolve


def compiled() -> Operations:
    """Compiled at their first call, for batches of any number of images. Values differ in rounding alone."""
    return Operations(*(torch.compile(operation, dynamic=True) for operation in (blend, turn_hue, convolve)))


def half_kernels(sigma: np.ndarray, length: int, largest: float) -> np.ndarray:
    """float32 (n, radius of sigma `largest` + 1): the weights of the pixels k away, 0 beyond an image's own radius."""
    radius, longest = (
        np.minimum(np.ceil(3.0 * np.asarray(value, np.float64)), length - 1) for value in (sigma, largest)
    )
    k = np.arange(int(longest) + 1)
    weights = np.exp(-0.5 * (k / sigma.astype(np.float64)[:, None]) ** 2) * (k <= radius[:, None])
    total = weights[:, :1] + 2.0 * weights[:, 1:].sum(1, keepdims=True)
    return (weights / total).astype(np.float32)


def solarize(images: Tensor, threshold: float) -> Tensor:
    """Values of `threshold` and more are inverted."""
    return torch.where(images >= threshold, 255.0 - images, images)


def _column(values: np.ndarray, like: Tensor) -> Tensor:
    """float32 (n, 1, 1, 1) on the device of `like`."""
    return bring(np.ascontiguousarray(values, dtype=np.float32), like).view(-1, 1, 1, 1)


def _where(chosen: np.ndarray, like: Tensor) -> Tensor:
    """Positions that are True, int64, on the device of `like`."""
    return bring(np.flatnonzero(chosen), like)


def bring(values: np.ndarray, like: Tensor) -> Tensor:
    """The values on the device of `like`; from page-locked memory to a GPU, so that nobody waits for the copy."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(like.device, non_blocking=True) if like.device.type == "cuda" else tensor
