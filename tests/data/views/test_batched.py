"""The batched chain against the compiled one, image by image, and what it leaves to the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from barlowctl.data.views import batched, corruption, draws, photometric
from barlowctl.data.views.parameters import draw_parameters
from barlowctl.data.views.spec import CenterSpec, ViewSpec
from tests.data.views_double import photograph

SIZE, COUNT = 40, 96


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """uint8 (COUNT, SIZE, SIZE, 3): photographs at differing offsets, and colours with tied channels."""
    photos = [photograph(name, SIZE, 2 * SIZE) for name in ("astronaut", "coffee", "chelsea")]
    made = np.stack([photos[i % 3][:, i % SIZE : i % SIZE + SIZE] for i in range(COUNT)])
    made[-8:] = np.random.default_rng(0).choice([0, 1, 127, 128, 254, 255], made[-8:].shape)
    return made


def one_by_one(images: np.ndarray, spec: ViewSpec, seed: int, epoch: int, keys: np.ndarray, view: int) -> np.ndarray:
    """The compiled chain: float32 (n, C, S, S)."""
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
    spare = np.empty(photometric.blur_scratch(images.shape[1]), np.float32)
    for one, key in zip(planes, keys, strict=True):
        drawn = draws.draw(draws.encode(spec), seed, epoch, key, view, 50, 70)
        photometric.distort(one, spare, drawn)
        turned = np.ascontiguousarray(one.transpose(0, 2, 1))  # corruption's planes are (C, x, y)
        corruption.corrupt(turned, drawn)
        one[:] = turned.transpose(0, 2, 1)
    return planes


def at_once(images: np.ndarray, spec: ViewSpec, seed: int, epoch: int, keys: np.ndarray, view: int) -> np.ndarray:
    parameters = draw_parameters(spec, seed, epoch, keys, view)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32)
    return batched.distort(pixels, parameters).numpy()


SPECS = {
    "first view": ViewSpec(SIZE),
    "second view": ViewSpec(SIZE, blur=0.1, solarize=0.2),
    "everything, wide": ViewSpec(SIZE, jitter=1.0, hue=0.5, saturation=1.5, grayscale=0.5, blur=0.7, solarize=0.5),
    "jitter alone": ViewSpec(SIZE, jitter=0.5, grayscale=0.0, blur=0.0),
    "wide blur": ViewSpec(SIZE, jitter=0.0, blur=0.5, blur_sigma=(0.1, 30.0)),
    "gamma and erasing": ViewSpec(SIZE, jitter=0.5, gamma=0.7, blur=0.0, erase=0.6),
    "nothing": ViewSpec(SIZE, jitter=0.0, grayscale=0.0, blur=0.0),
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_compiled_chain_is_met(images: np.ndarray, name: str, channels: int) -> None:
    """To a hundredth of a grey level, except for pixels at solarisation's threshold and at ties of hue's branches."""
    some, keys = images[..., :channels], np.arange(1000, 1000 + COUNT)
    expected = one_by_one(some, SPECS[name], 3, 5, keys, 1)
    actual = at_once(some, SPECS[name], 3, 5, keys, 1)
    close = np.abs(actual - expected) < 0.01
    assert close.mean() > 0.9995
    assert close.reshape(COUNT, -1).mean(1).min() > 0.99
    if name != "nothing":
        assert np.abs(expected - some.transpose(0, 3, 1, 2)).max() > 20


def test_white_that_is_blurred_and_inverted_is_black_whatever_its_gamma() -> None:
    """A kernel's weights add up to 1, except for rounding: what is a little above white has no power when inverted."""
    spec = ViewSpec(SIZE, jitter=1.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, grayscale=0.0,
                    solarize=1.0, gamma=0.5)  # fmt: skip
    white = np.full((COUNT, SIZE, SIZE, 3), 255, np.uint8)
    assert np.abs(at_once(white, spec, 0, 0, np.arange(COUNT), 0)).max() < 0.1


def test_a_draw_depends_on_its_key_alone(images: np.ndarray) -> None:
    """Neither the rest of the batch nor the place in it matters."""
    spec, keys = SPECS["everything, wide"], np.arange(COUNT)
    whole = at_once(images, spec, 0, 0, keys, 0)
    part = at_once(images[[40, 7]], spec, 0, 0, keys[[40, 7]], 0)
    assert np.abs(whole[[40, 7]] - part).max() < 1e-3
    assert not np.allclose(whole, at_once(images, spec, 0, 1, keys, 0))


def test_frequencies_are_those_of_the_table() -> None:
    spec = ViewSpec(SIZE, jitter=0.8, grayscale=0.2, blur=0.1, solarize=0.2)
    drawn = draw_parameters(spec, 0, 0, np.arange(20_000), 1)
    for values, p in ((drawn.jitter, 0.8), (drawn.grayscale, 0.2), (drawn.sigma > 0, 0.1), (drawn.solarize, 0.2)):
        assert values.mean() == pytest.approx(p, abs=0.012)
    assert not drawn.erased.any()
    assert len(np.unique(drawn.steps, axis=0)) == 24


def test_the_geometric_part_draws_the_same_crop() -> None:
    spec = ViewSpec(SIZE, crop_scale=(0.2, 0.9), interpolation="bilinear", blur_sigma=(0.5, 1.0), gamma=0.5, erase=0.9)
    left = batched.geometric(spec)
    for key in range(50):
        whole, rest = (draws.draw(draws.encode(s), 1, 2, key, 0, 60, 90) for s in (spec, left))
        assert rest[:5] == whole[:5]
        assert not any((rest.jitter, rest.grayscale, rest.solarize, rest.sigma, rest.erase_height))
    center = CenterSpec(48, SIZE)
    assert batched.geometric(center) is center


def test_blurs_of_all_batches_have_kernels_of_one_length(images: np.ndarray) -> None:
    """Whatever sigmas a batch draws: a compiler would otherwise make one for every length."""
    lengths: list[int] = []

    def convolve(images: torch.Tensor, weights: torch.Tensor, axis: int) -> torch.Tensor:
        lengths.append(weights.shape[1])
        return batched.convolve(images, weights, axis)

    spec, operations = ViewSpec(SIZE, blur=0.5, blur_sigma=(0.1, 2.0)), batched.Operations(convolve=convolve)
    for epoch in range(8):
        drawn = draw_parameters(spec, 0, epoch, np.arange(4), 0)
        batched.distort(torch.from_numpy(images[:4]).permute(0, 3, 1, 2).float(), drawn, operations)
    assert len(lengths) > 8
    assert set(lengths) == {1 + 6}  # the radius of sigma 2


def test_each_parameter_is_the_draw_of_its_name() -> None:
    """Against `draws.draw`, one sample at a time: no column is another's."""
    spec = ViewSpec(SIZE, jitter=0.7, grayscale=0.5, blur=0.5, solarize=0.5, gamma=0.7, erase=0.6)
    parameters = draw_parameters(spec, 3, 5, np.arange(40), 1)
    for i in range(40):
        drawn = draws.draw(draws.encode(spec), 3, 5, i, 1, 50, 70)
        assert parameters.steps[i].tolist() == photometric.ORDERS[drawn.order].tolist()
        factors = (drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue)
        assert parameters.factors[i].tolist() == np.float32(factors).tolist()
        switches = (drawn.jitter, drawn.grayscale, drawn.solarize)
        assert (parameters.jitter[i], parameters.grayscale[i], parameters.solarize[i]) == switches
        assert (parameters.sigma[i], parameters.gamma[i]) == (np.float32(drawn.sigma), np.float32(drawn.gamma))
        box = (drawn.erase_top, drawn.erase_left, drawn.erase_height, drawn.erase_width)
        assert tuple(parameters.erased[i]) == box
        levels = (drawn.erase_red, drawn.erase_green, drawn.erase_blue)
        assert parameters.levels[i].tolist() == np.float32(levels).tolist()
    assert parameters.erased[:, 2].any()
