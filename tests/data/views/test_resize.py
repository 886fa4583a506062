"""Crop and resize against the definition in float64, torch's antialias, and torchvision on photographs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from barlowctl.data.views import resize, vector
from tests.data.views_double import photograph
from tests.oracles import views_resample as oracle

KERNELS = ["bicubic", "bilinear"]
BOXES = [(0, 0, 120, 160), (11, 20, 90, 75), (3, 5, 24, 31), (60, 100, 7, 5), (119, 0, 1, 160)]


def run(
    image: np.ndarray, vertical: object, horizontal: object, size: int, kernel: str, flip: bool = False
) -> np.ndarray:
    """Our kernel on (H, W, C): float32 (size, size, C)."""
    width, channels = image.shape[1:]
    source = np.concatenate([np.ascontiguousarray(image).ravel(), np.full(vector.SLACK, 255, np.uint8)])
    source.flags.writeable = False
    planes = np.full((channels, size, size), np.nan, np.float32)
    scratch = np.full(resize.scratch_length(width, channels), np.nan, np.float32)
    rows = resize.axis_taps(vertical, size, kernel == "bicubic", False)
    columns = resize.axis_taps(horizontal, size, kernel == "bicubic", flip)
    resize.resample(source, 0, width * channels, channels, rows, columns, scratch, planes)
    return planes.transpose(2, 1, 0)


def crop(image: np.ndarray, box: tuple[int, int, int, int], size: int, kernel: str, flip: bool = False) -> np.ndarray:
    top, left, height, width = box
    return run(image, resize.crop_axis(top, height, size), resize.crop_axis(left, width, size), size, kernel, flip)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return photograph()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [1, 28, 50])
@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("channels", [1, 3])
def test_against_the_definition(
    photo: np.ndarray, box: tuple[int, int, int, int], size: int, kernel: str, channels: int
) -> None:
    image = photo[..., :channels]
    expected = oracle.crop_resize(image, *box, size, kernel)
    assert np.abs(crop(image, box, size, kernel) - expected).max() < 1e-3


@pytest.mark.parametrize("channels", [2, 13, 64])
def test_any_number_of_channels_is_each_by_itself(photo: np.ndarray, channels: int) -> None:
    """To the last bit, in scratch of the length that is asked for and no more."""
    image = np.random.default_rng(0).integers(0, 256, (*photo.shape[:2], channels), dtype=np.uint8)
    together = crop(image, BOXES[1], 50, "bicubic")
    for channel in range(channels):
        assert np.array_equal(
            together[..., channel : channel + 1], crop(image[..., channel : channel + 1], BOXES[1], 50, "bicubic")
        )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [28, 96, 224])
@pytest.mark.parametrize("box", BOXES)
def test_against_torch(photo: np.ndarray, box: tuple[int, int, int, int], size: int, kernel: str) -> None:
    top, left, height, width = box
    part = torch.from_numpy(photo[top : top + height, left : left + width].copy()).permute(2, 0, 1)[None].float()
    theirs = torch.nn.functional.interpolate(part, (size, size), mode=kernel, antialias=True, align_corners=False)
    theirs = theirs[0].permute(1, 2, 0).clamp(0, 255).numpy()
    ours = crop(photo, box, size, kernel)
    assert np.abs(np.rint(ours) - np.rint(theirs)).max() <= 1
    assert np.abs(ours - theirs).max() < 0.01


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_against_torchvision_on_uint8_photographs(name: str, kernel: str) -> None:
    image = photograph(name, 300, 400)
    mode = InterpolationMode.BICUBIC if kernel == "bicubic" else InterpolationMode.BILINEAR
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    for box in [(0, 0, 300, 400), (20, 35, 200, 180), (100, 50, 90, 110)]:
        theirs = F.resized_crop(pixels, *box, [224, 224], mode, antialias=True).permute(1, 2, 0).numpy()
        difference = np.abs(np.rint(crop(image, box, 224, kernel)) - theirs)
        assert (difference <= 2).mean() >= 0.999


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("to", "side"), [(64, 56), (32, 28), (120, 120), (200, 180), (33, 28)])
@pytest.mark.parametrize("turned", [False, True])
def test_centre_is_resize_then_crop(photo: np.ndarray, kernel: str, to: int, side: int, turned: bool) -> None:
    image = np.ascontiguousarray(photo.swapaxes(0, 1)) if turned else photo
    height, width = image.shape[:2]
    axes = [resize.center_axis(length, min(height, width), to, side) for length in (height, width)]
    ours = run(image, *axes, side, kernel)
    assert np.abs(ours - oracle.resize_center(image, to, side, kernel)).max() < 1e-3
    mode = InterpolationMode.BICUBIC if kernel == "bicubic" else InterpolationMode.BILINEAR
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
    theirs = F.center_crop(F.resize(pixels, [to], mode, antialias=True).clamp(0, 1), [side, side])
    assert np.abs(ours - 255 * theirs.permute(1, 2, 0).numpy()).max() < 0.01


def test_flip_mirrors_columns(photo: np.ndarray) -> None:
    box = (11, 20, 90, 75)
    assert (crop(photo, box, 50, "bicubic", flip=True) == crop(photo, box, 50, "bicubic")[:, ::-1]).all()


def test_same_size_is_the_identity(photo: np.ndarray) -> None:
    assert np.array_equal(crop(photo, (10, 30, 64, 64), 64, "bicubic"), photo[10:74, 30:94].astype(np.float32))


def test_pixels_outside_a_crop_do_not_contribute(photo: np.ndarray) -> None:
    box = (11, 20, 30, 40)
    other = np.full_like(photo, 255)
    other[11:41, 20:60] = photo[11:41, 20:60]
    assert np.array_equal(crop(photo, box, 28, "bicubic"), crop(other, box, 28, "bicubic"))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 13])
@pytest.mark.parametrize("size", [1, 28, 33, 64])
def test_store_turns_and_rounds(channels: int, size: int) -> None:
    planes = np.random.default_rng(0).uniform(0, 255, (channels, size, size)).astype(np.float32)
    planes.flat[0], planes.flat[-1] = 0.0, 255.0
    out = np.zeros(size * size * channels, np.uint8)
    resize.store(planes, np.empty(resize.store_scratch(size), np.uint32), out)
    expected = np.floor(planes + np.float32(0.5)).astype(np.uint8).transpose(2, 1, 0)
    assert np.array_equal(out.reshape(size, size, channels), expected)
