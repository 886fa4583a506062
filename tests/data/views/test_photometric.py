"""Each photometric operation, and the whole chain, against torchvision's functional reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from barlowctl.data.views import draws, photometric
from barlowctl.data.views.reference import distort
from barlowctl.data.views.spec import ViewSpec
from tests.data.views_double import photograph

SIZE = 64
NOTHING = draws.Draw(0, 0, SIZE, SIZE, False, False, 0, 1.0, 1.0, 1.0, 0.0, False, 0.0, False)


def jittered(**changes: float) -> draws.Draw:
    return NOTHING._replace(jitter=True, **changes)


def apply(image: np.ndarray, parameters: draws.Draw) -> np.ndarray:
    """Our chain on (S, S, C) of 0..255: float32 (S, S, C)."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)
    photometric.distort(planes, np.full(photometric.blur_scratch(len(image)), np.nan, np.float32), parameters)
    return planes.transpose(1, 2, 0)


def reference(image: np.ndarray, operation: object, dtype: torch.dtype) -> np.ndarray:
    """A torchvision function on the same image, float in [0, 1] or uint8: (S, S, C) of 0..255."""
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)
    if dtype == torch.float32:
        pixels = pixels.float() / 255
    done = operation(pixels).permute(1, 2, 0).numpy()  # type: ignore[operator]
    return done * 255.0 if dtype == torch.float32 else done.astype(np.float32)


def blur_reference(sigma: float) -> object:
    side = 2 * math.ceil(3 * sigma) + 1
    return lambda x: F.gaussian_blur(x, [side, side], [sigma, sigma])


CASES = {
    **{f"brightness {f}": (jittered(brightness=f), lambda x, f=f: F.adjust_brightness(x, f)) for f in (0.0, 0.6, 1.4)},
    **{f"contrast {f}": (jittered(contrast=f), lambda x, f=f: F.adjust_contrast(x, f)) for f in (0.0, 0.6, 1.4)},
    **{f"saturation {f}": (jittered(saturation=f), lambda x, f=f: F.adjust_saturation(x, f)) for f in (0.0, 0.8, 1.2)},
    **{
        f"hue {f}": (jittered(hue=f), lambda x, f=f: F.adjust_hue(x, f))
        for f in (-0.5, -0.1, -0.01, 0.003, 0.1, 0.35, 0.5)
    },
    "grayscale": (NOTHING._replace(grayscale=True), lambda x: F.rgb_to_grayscale(x, 3)),
    **{f"blur {s}": (NOTHING._replace(sigma=s), blur_reference(s)) for s in (0.1, 0.4, 0.8, 1.3, 2.0, 5.0)},
    "solarize": (
        NOTHING._replace(solarize=True),
        lambda x: F.solarize(x, 128 / 255 if x.is_floating_point() else 128),
    ),
    "solarize from 40": (
        NOTHING._replace(solarize=True, threshold=40.0),
        lambda x: F.solarize(x, 40 / 255 if x.is_floating_point() else 40),
    ),
    "brightness, added": (
        jittered(shift=-60.0),
        lambda x: (x - 60 / 255).clamp(0, 1) if x.is_floating_point() else (x.int() - 60).clamp(0, 255),
    ),
    "grayscale first": (
        NOTHING._replace(grayscale=True, grayscale_first=True, jitter=True, hue=0.3, contrast=0.6),
        lambda x: F.adjust_hue(F.adjust_contrast(F.rgb_to_grayscale(x, 3), 0.6), 0.3),
    ),
}


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    ramp = np.arange(SIZE * SIZE * 3, dtype=np.uint32).reshape(SIZE, SIZE, 3) * 2654435761 >> 24
    return [photograph(name, SIZE, SIZE) for name in ("astronaut", "coffee")] + [(ramp % 256).astype(np.uint8)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "levels"), [(torch.float32, 1), (torch.uint8, 2)])
def test_one_operation(photos: list[np.ndarray], case: str, dtype: torch.dtype, levels: int) -> None:
    parameters, operation = CASES[case]
    for image in photos:
        difference = np.abs(np.rint(apply(image, parameters)) - np.rint(reference(image, operation, dtype)))
        assert difference.max() <= levels, case


@pytest.mark.parametrize("case", CASES)
def test_one_operation_in_float_to_a_hundredth(photos: list[np.ndarray], case: str) -> None:
    """Closer than a level: nothing is rounded on the way."""
    parameters, operation = CASES[case]
    for image in photos:
        assert np.abs(apply(image, parameters) - reference(image, operation, torch.float32)).max() < 0.02, case


def test_every_colour_through_hue() -> None:
    """Grey, saturated and tied channels have their own branches of HSV."""
    levels = np.array([0, 1, 127, 128, 254, 255], np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 3)
    image = np.resize(colours, (16, 16, 3))
    for shift in (-0.5, -0.2, 0.05, 1 / 6, 1 / 3, 0.5):
        ours = apply(image, jittered(hue=shift))
        theirs = reference(image, lambda x, f=shift: F.adjust_hue(x, f), torch.float32)
        assert np.abs(ours - theirs).max() < 0.05


@pytest.mark.parametrize(("channels", "first"), [(1, False), (3, False), (3, True)])
def test_the_chain_against_its_slow_twin(photos: list[np.ndarray], channels: int, first: bool) -> None:
    """The drawn parameters, all operations, every order. Solarisation may tip a pixel at its threshold."""
    spec = ViewSpec(
        SIZE, jitter=0.9, grayscale=0.3, grayscale_first=first, blur=0.5, solarize=0.4, brightness_added=first
    )
    row = draws.encode(spec)
    orders = set()
    for sample in range(200):
        parameters = draws.draw(row, 0, 0, sample, 0, SIZE, SIZE)
        orders.add(parameters.order)
        image = photos[sample % len(photos)][..., :channels]
        theirs = reference(image, lambda x, p=parameters: distort(x, p), torch.float32)
        difference = np.abs(np.rint(apply(image, parameters)) - np.rint(theirs))
        assert (difference <= 1).mean() >= 0.999
    assert len(orders) == 24


def test_the_order_of_jitter_matters_and_is_kept(photos: list[np.ndarray]) -> None:
    image = photos[0]
    done = {}
    for index, order in enumerate(photometric.ORDERS):
        parameters = jittered(order=index, brightness=1.4, contrast=0.6, saturation=1.2, hue=0.1)
        steps = [
            lambda x: F.adjust_brightness(x, 1.4),
            lambda x: F.adjust_contrast(x, 0.6),
            lambda x: F.adjust_saturation(x, 1.2),
            lambda x: F.adjust_hue(x, 0.1),
        ]
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        for step in order:
            pixels = steps[step](pixels)
        done[index] = apply(image, parameters)
        assert np.abs(done[index] - 255 * pixels.permute(1, 2, 0).numpy()).max() < 0.05
    assert np.abs(done[0] - done[23]).max() > 2


def test_one_channel_ignores_colour(photos: list[np.ndarray]) -> None:
    image = photos[0][..., :1]
    coloured = jittered(saturation=1.2, hue=0.1)._replace(grayscale=True)
    assert np.array_equal(apply(image, coloured), image.astype(np.float32))


def test_blur_wider_than_the_image_is_cut() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 1)).astype(np.uint8)
    blurred = apply(image, NOTHING._replace(sigma=3.0))
    theirs = reference(image, lambda x: F.gaussian_blur(x, [7, 7], [3.0, 3.0]), torch.float32)
    assert np.abs(blurred - theirs).max() < 0.01
    assert np.array_equal(apply(image[:1, :1], NOTHING._replace(sigma=3.0)), image[:1, :1].astype(np.float32))


def test_grey_before_jitter_is_not_grey_after_it(photos: list[np.ndarray]) -> None:
    """Clamping sees the grey values only: the order matters where a factor brightens."""
    drawn = jittered(brightness=1.4)._replace(grayscale=True)
    before, after = (apply(photos[1], drawn._replace(grayscale_first=first)) for first in (True, False))
    assert np.ptp(before, axis=2).max() == 0
    assert np.abs(before - after).max() > 5


def test_nothing_drawn_is_the_identity(photos: list[np.ndarray]) -> None:
    assert np.array_equal(apply(photos[0], NOTHING), photos[0].astype(np.float32))
