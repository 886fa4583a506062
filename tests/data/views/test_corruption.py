"""Gamma and erasing against torchvision's functional reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from barlowctl.data.views import draws, reference
from barlowctl.data.views.corruption import corrupt
from tests.data.views_double import photograph

SIZE = 48
NOTHING = draws.Draw(0, 0, SIZE, SIZE, False, True, 0, 1.0, 1.0, 1.0, 0.0, False, 0.0, False)


def apply(image: np.ndarray, parameters: draws.Draw) -> np.ndarray:
    """Ours on (S, S, C): float32 of 0..255. The compiled planes are (C, x, y)."""
    planes = np.ascontiguousarray(image.transpose(2, 1, 0), dtype=np.float32)
    corrupt(planes, parameters)
    return planes.transpose(2, 1, 0)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return photograph("coffee", SIZE, SIZE)


@pytest.mark.parametrize("exponent", [0.3, 0.9, 1.0, 2.5])
def test_gamma(photo: np.ndarray, exponent: float) -> None:
    pixels = torch.from_numpy(photo).permute(2, 0, 1).double() / 255
    expected = 255 * F.adjust_gamma(pixels, exponent).permute(1, 2, 0).numpy()
    assert np.abs(apply(photo, NOTHING._replace(gamma=exponent)) - expected).max() < 0.01


def test_gamma_of_a_rounding_below_black_is_black() -> None:
    """As the plain loader has it: blurred white is up to 1e-7 above white, and inverted that much below black."""
    below = torch.full((3, SIZE, SIZE), -1e-7)
    assert torch.equal(reference.corrupt(below, NOTHING._replace(gamma=0.8)), torch.zeros_like(below))


@pytest.mark.parametrize("channels", [1, 3])
def test_erasing_covers_its_rectangle_and_nothing_else(photo: np.ndarray, channels: int) -> None:
    levels = (10.0, 200.5, 99.0)
    erasing = NOTHING._replace(erase_top=5, erase_left=30, erase_height=20, erase_width=9)
    erasing = erasing._replace(erase_red=levels[0], erase_green=levels[1], erase_blue=levels[2])
    image = photo[..., :channels]
    expected = image.astype(np.float32)
    expected[5:25, 30:39] = levels[:channels]
    assert np.array_equal(apply(image, erasing), expected)


def test_nothing_drawn_is_the_identity(photo: np.ndarray) -> None:
    assert np.array_equal(apply(photo, NOTHING), photo.astype(np.float32))
