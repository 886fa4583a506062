"""How an image becomes a network's input, as one value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from barlowctl.assemble.data import choices_of, evaluation_spec
from barlowctl.assemble.model import preprocessing_of
from barlowctl.data.images.conversion import Choices
from barlowctl.data.views.spec import CenterSpec, SquashSpec
from barlowctl.errors import UserError
from barlowctl.model import Preprocessing, unlike_timm
from barlowctl.recipe import load

PREPROCESSING = Preprocessing(resize=36, crop=32, interpolation="bilinear", mean=(0.2, 0.4, 0.6), std=(0.1, 0.2, 0.4))


def test_pixels_become_the_input() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    expected = (pixels.astype(np.float64) / 255 - PREPROCESSING.mean) / PREPROCESSING.std
    normalized = PREPROCESSING.normalization()(torch.from_numpy(pixels))
    np.testing.assert_allclose(normalized.permute(0, 2, 3, 1).numpy(), expected, rtol=1e-5, atol=1e-6)
    assert PREPROCESSING.channels == 3


def test_a_recipe_says_all_of_it() -> None:
    given = ["eval.resize=40", "eval.crop=30", "views.interpolation=bilinear", "views.mean=[0.3]", "views.std=[0.2]"]
    given += ["data.channels=1", "data.range=0:4095", "data.background=black", "data.bands=[2]"]
    preprocessing = preprocessing_of(load.load("quickstart", given))
    choices = Choices("0:4095", "black", (2,))
    assert preprocessing == Preprocessing(
        resize=40, crop=30, interpolation="bilinear", mean=(0.3,), std=(0.2,),
        range=choices.range, background=choices.background, bands=choices.bands,
    )  # fmt: skip
    assert preprocessing.channels == 1
    assert evaluation_spec(preprocessing) == CenterSpec(resize=40, crop=30, interpolation="bilinear")
    assert evaluation_spec(replace(preprocessing, squash=True)) == SquashSpec(30, "bilinear")
    assert choices_of(preprocessing) == choices


@pytest.mark.parametrize(
    ("mode", "share", "squash"), [("squash", 1.0, True), ("squash", 0.8, False), ("center", 1.0, False)]
)
def test_timms_squashed_pictures_are_squashed(mode: str, share: float, squash: bool) -> None:
    """Of some 120 published networks, convnext_base.fb_in22k_ft_in1k_384 for one."""
    config = {
        "input_size": (3, 32, 32), "crop_pct": share, "crop_mode": mode, "interpolation": "bicubic",
        "mean": (0.5,) * 3, "std": (0.5,) * 3,
    }  # fmt: skip
    preprocessing = Preprocessing.of_timm(config)
    assert preprocessing.squash is squash
    assert (preprocessing.crop_mode, preprocessing.crop_pct) == (("squash", 1.0) if squash else ("center", share))


def test_its_defaults_are_those_of_files_that_are_converted() -> None:
    assert choices_of(PREPROCESSING) == Choices()


def test_a_result_of_before_keeps_its_identity() -> None:
    """What is not said of a picture in earlier results is said of those alone that depart from it."""
    plain = PREPROCESSING.as_dict()
    assert plain == {
        "resize": 36, "crop": 32, "interpolation": "bilinear", "channels": 3, "range": "auto", "background": "white",
        "bands": [], "mean": [0.2, 0.4, 0.6], "std": [0.1, 0.2, 0.4],
    }  # fmt: skip
    assert replace(PREPROCESSING, squash=True).as_dict() == {**plain, "squash": True}
    assert PREPROCESSING.departures() == {}
    assert replace(PREPROCESSING, bands=(4, 3, 2), background="none").departures() == {
        "bands": [4, 3, 2],
        "background": "none",
    }


def test_crop_pct_survives_timms_rounding() -> None:
    for resize in range(8, 300):
        for crop in range(8, resize + 1):
            preprocessing = replace(PREPROCESSING, crop=crop, resize=resize)
            assert int(crop / preprocessing.crop_pct) == resize
            assert abs(preprocessing.crop_pct - crop / resize) < 1e-12


def test_timms_configuration() -> None:
    config = {"input_size": (3, 224, 224), "crop_pct": 0.875, "interpolation": "bicubic"}
    config |= {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    assert Preprocessing.of_timm(config) == Preprocessing(
        resize=256, crop=224, interpolation="bicubic", mean=(0.5,) * 3, std=(0.25,) * 3
    )
    assert unlike_timm(config) == ()


@pytest.mark.parametrize(
    ("crop_mode", "crop_pct", "squash", "note"),
    [
        ("center", 0.875, False, None),
        ("squash", 1.0, True, None),
        ("squash", 0.9, False, "timm squashes them to 248 x 248 first"),
        ("border", 1.0, False, "timm adds borders to them"),
    ],
)
def test_timms_ways_to_crop(crop_mode: str, crop_pct: float, squash: bool, note: str | None) -> None:
    config = {"input_size": (3, 224, 224), "crop_pct": crop_pct, "interpolation": "bicubic", "crop_mode": crop_mode}
    config |= {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    preprocessing, notes = Preprocessing.of_timm(config), unlike_timm(config)
    assert (preprocessing.squash, preprocessing.crop) == (squash, 224)
    assert note in notes[0] if note else notes == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": ()}, "mean has 0 numbers"),
        ({"std": (1.0,)}, "std has 1"),
        ({"crop": 37}, "37 pixels of a shorter side of 36"),
        ({"bits": 16}, "16 bits"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(PREPROCESSING, **change)  # type: ignore[arg-type]
