"""One image in a `.npy` file: its axes, number types and bands."""

from __future__ import annotations

import io

import numpy as np
import pytest

from barlowctl.data.images.array_axes import stored
from barlowctl.data.images.conversion import Choices, Conversion
from barlowctl.data.images.pixels import decode_picture
from barlowctl.data.images.ranges import Ranges
from barlowctl.data.images.unreadable import Unreadable

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
COLOURS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
BANDS = RNG.integers(0, 3000, (20, 30, 5), dtype=np.uint16)


def file(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def pixels(values: np.ndarray, **choices: object) -> np.ndarray:
    made = Choices(**choices)  # type: ignore[arg-type]
    return decode_picture(file(values), Conversion(made, Ranges(made.range))).pixels


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (GREY, GREY),
        (GREY[..., None], GREY),
        (GREY[None], GREY),
        (np.asfortranarray(GREY), GREY),
        (COLOURS, COLOURS),
        (COLOURS.transpose(2, 0, 1), COLOURS),
        (GREY > 100, np.where(GREY > 100, 255, 0)),
        (GREY.astype(np.float32) / 255, GREY),
        (GREY.astype(np.float64) / 255, GREY),
        (GREY.astype(np.int64), GREY),
        ((GREY.astype(np.uint16) << 8).astype(">u2"), GREY),
        (GREY[::-1, ::-1], GREY[::-1, ::-1]),
    ],
)
def test_grey_and_colours(values: np.ndarray, expected: np.ndarray) -> None:
    choices = {"range": "0:65280"} if values.dtype == ">u2" else {}
    assert np.array_equal(pixels(values, **choices), expected)


@pytest.mark.parametrize("values", [BANDS, BANDS.transpose(2, 0, 1)])
def test_bands_are_the_shorter_axis(values: np.ndarray) -> None:
    level = np.floor(BANDS.astype(np.float64) * 255 / 3000 + 0.5)
    made = pixels(values, bands=(1, 2, 3, 4, 5), range="0:3000")
    assert made.shape == (20, 30, 5)
    assert np.array_equal(made, level)
    assert np.array_equal(pixels(values, bands=(4, 3, 2), range="0:3000"), level[..., [3, 2, 1]])
    assert np.array_equal(pixels(values, bands=(5,), range="0:3000"), level[..., 4])


def test_colours_as_channels_of_their_own() -> None:
    assert np.array_equal(pixels(COLOURS, bands=(3, 1)), COLOURS[..., [2, 0]])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (BANDS, "20 x 30 x 5 uint16, 5 bands, and it does not say which are red, green and blue"),
        (np.zeros((8, 4, 8)), "the first and the last axis, and these are as long"),
        (np.zeros((2, 8, 8, 3)), "an image is height x width"),
        (np.zeros(8), "an array of 8 float64; an image is height x width"),
        (np.zeros(()), "one number float64"),
        (np.zeros((8, 8), complex), "no levels of brightness"),
        (np.zeros((8, 8), "U3"), "no levels of brightness"),
        (np.zeros((0, 8)), "8 x 0 pixels"),
    ],
)
def test_what_is_no_image(values: np.ndarray, reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        pixels(values)
    assert reason in str(caught.value)


def test_a_band_that_is_not_there() -> None:
    with pytest.raises(Unreadable, match="there is no band 6"):
        pixels(BANDS, bands=(6, 1, 2))


def test_objects_are_not_loaded_and_damage_is_met() -> None:
    for data, reason in (
        (file(np.array([[{}]], object)), "Python objects, which are not loaded"),
        (file(GREY)[:-1], "expected 600 bytes got 599"),
        (file(GREY)[:40], "header"),
    ):
        with pytest.raises(Unreadable, match=reason):
            decode_picture(data)


@pytest.mark.parametrize("values", [GREY, GREY[..., None], COLOURS, COLOURS.transpose(2, 0, 1), BANDS, GREY / 255])
def test_what_a_source_gives_is_what_the_file_holds(values: np.ndarray) -> None:
    given = stored(values)
    if values.dtype == np.uint8:
        assert isinstance(given, np.ndarray)
        assert np.array_equal(given, pixels(values))
    else:
        assert given == file(values)
