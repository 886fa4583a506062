"""PIRL's photometric distortions against Pillow, which vissl calls, and against their slow twin."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from barlowctl.data.views import batched, draws, photometric, reference
from barlowctl.data.views.parameters import draw_parameters
from barlowctl.data.views.spec import ViewSpec
from tests.data.views_double import photograph

SIZE = 48


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    ramp = np.arange(SIZE * SIZE * 3, dtype=np.uint32).reshape(SIZE, SIZE, 3) * 2654435761 >> 24
    dark = photograph("coffee", SIZE, SIZE) // 4 + 30
    flat = np.full((SIZE, SIZE, 3), (17, 128, 200), np.uint8)
    return [photograph("astronaut", SIZE, SIZE), (ramp % 256).astype(np.uint8), dark.astype(np.uint8), flat]


def ours(image: np.ndarray, operation: Callable[[np.ndarray], object]) -> np.ndarray:
    """An operation on each plane of (S, S, C): float32 (S, S, C)."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)
    for plane in planes:
        operation(plane)
    return planes.transpose(1, 2, 0)


def flat(operation: Callable[..., object], *arguments: object) -> Callable[[np.ndarray], object]:
    return lambda plane: operation(plane.reshape(-1), *arguments)


def sharpened(factor: float) -> Callable[[np.ndarray], object]:
    return lambda plane: photometric.adjust_sharpness(plane, np.full(SIZE * SIZE, np.nan, np.float32), factor)


CASES: dict[str, tuple[Callable, Callable, float]] = {
    **{
        f"posterise to {b} bits": (flat(photometric.posterize, b), lambda x, b=b: ImageOps.posterize(x, b), 0)
        for b in (4, 5, 6, 7, 8)
    },
    **{
        f"sharpness {f}": (sharpened(f), lambda x, f=f: ImageEnhance.Sharpness(x).enhance(f), 2)
        for f in (0.1, 0.7, 1.0, 1.9)
    },
    **{
        f"solarise from {t}": (flat(photometric.invert, t), lambda x, t=t: ImageOps.solarize(x, t), 0)
        for t in (0, 1, 100, 255, 256)
    },
    "autocontrast": (flat(photometric.autocontrast), ImageOps.autocontrast, 1),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("channels", [1, 3])
def test_one_operation_is_pillows(photos: list[np.ndarray], case: str, channels: int) -> None:
    """But for Pillow's rounding: to whole levels twice in sharpness, downwards in autocontrast."""
    operation, pillow, levels = CASES[case]
    for image in photos:
        some = image[..., :channels]
        picture = Image.fromarray(some[..., 0] if channels == 1 else some)
        expected = np.asarray(pillow(picture)).reshape(some.shape).astype(np.float32)
        assert np.abs(ours(some, operation) - expected).max() <= levels, case


SPEC = ViewSpec(SIZE, jitter=0.8, grayscale=0.2, blur=0.0, photometric=0.66)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_part_of_the_chain_is_that_of_its_slow_twin_and_of_the_device(
    photos: list[np.ndarray], channels: int
) -> None:
    """On whole levels, where no pixel is near a step of posterising or of solarising."""
    row, keys = draws.encode(SPEC), np.arange(60)
    images = np.stack([photos[key % 3][..., :channels] for key in keys])
    drawn = [draws.draw(row, 0, 0, key, 3, SIZE, SIZE) for key in keys]
    parameters = draw_parameters(SPEC, 0, 0, keys, 3)
    assert parameters.autocontrast.tolist() == [one.autocontrast for one in drawn]
    chosen = np.flatnonzero(parameters.autocontrast)
    assert 20 < len(chosen) < 60
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    device = batched.enhance(pixels[torch.from_numpy(chosen)], parameters).permute(0, 2, 3, 1).numpy()
    for on_device, key in zip(device, chosen, strict=True):
        planes = np.ascontiguousarray(images[key].transpose(2, 0, 1), dtype=np.float32)
        photometric.enhance(planes, np.empty(SIZE * SIZE, np.float32), drawn[key])
        compiled = planes.transpose(1, 2, 0)
        twin = 255 * reference.enhance(pixels[key] / 255, drawn[key]).permute(1, 2, 0).numpy()
        for other in (on_device, twin):
            assert (np.abs(other - compiled) < 0.02).mean() > 0.999


def test_all_or_none_and_their_ranges() -> None:
    row = draws.encode(ViewSpec(SIZE, photometric=0.66))
    drawn = [draws.draw(row, 0, 0, key, 1, SIZE, SIZE) for key in range(6000)]
    on = [one for one in drawn if one.autocontrast]
    assert len(on) / len(drawn) == pytest.approx(0.66, abs=0.02)
    assert {one.bits for one in on} == {4, 5, 6, 7, 8}
    assert {one.invert for one in on} == set(range(257))
    sharpness = np.array([one.sharpness for one in on])
    assert (sharpness.min(), sharpness.mean(), sharpness.max()) == pytest.approx((0.1, 1.0, 1.9), abs=0.03)
    off = {(one.bits, one.sharpness, one.invert) for one in drawn if not one.autocontrast}
    assert off == {(0, 1.0, 256)}


def test_what_they_add_leaves_the_other_draws() -> None:
    with_them, without = (draws.encode(ViewSpec(SIZE, photometric=p)) for p in (1.0, 0.0))
    for key in range(20):
        one, other = (draws.draw(row, 0, 0, key, 0, 90, 60) for row in (with_them, without))
        assert one._replace(bits=0, sharpness=1.0, invert=256, autocontrast=False) == other
