"""The augmentation table as values."""

from __future__ import annotations

import pytest

from barlowctl.data.views.spec import CenterSpec, ViewSpec
from barlowctl.errors import UserError


def test_defaults_are_the_papers_first_view() -> None:
    spec = ViewSpec(224)
    assert (spec.crop_scale, spec.flip, spec.jitter) == ((0.08, 1.0), 0.5, 0.8)
    assert (spec.brightness, spec.contrast, spec.saturation, spec.hue) == (0.4, 0.4, 0.2, 0.1)
    assert (spec.grayscale, spec.blur, spec.blur_sigma, spec.solarize) == (0.2, 1.0, (0.1, 2.0), 0.0)
    assert spec.output_size == 224
    assert CenterSpec(256, 224).output_size == 224


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"interpolation": "bicubik"}, "did you mean 'bicubic'"),
        ({"size": 0}, "size is 0"),
        ({"flip": 1.5}, "flip is 1.5"),
        ({"blur_sigma": (2.0, 0.1)}, "blur_sigma"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale"),
        ({"crop_scale": (0.5, 1.5)}, "crop_scale"),
        ({"hue": 0.6}, "hue is 0.6"),
        ({"contrast": -0.1}, "contrast is -0.1"),
    ],
)
def test_values_out_of_range_are_refused(change: dict, names: str) -> None:
    with pytest.raises(UserError, match=names):
        ViewSpec(**{"size": 32, **change})


def test_centre_crop_must_fit() -> None:
    with pytest.raises(UserError, match="224 pixels of a shorter side of 200"):
        CenterSpec(200, 224)
