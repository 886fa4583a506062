"""Patches of one crop: where they lie, that they share it, and that both loaders and the device make the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from barlowctl.data.loaders.device import DeviceLoader
from barlowctl.data.loaders.fast import FastLoader
from barlowctl.data.loaders.plain import PlainLoader
from barlowctl.data.views import batched, draws
from barlowctl.data.views.spec import Patch, Spec, ViewSpec
from barlowctl.errors import UserError
from tests.data.views_double import MemoryBeton, photograph

GRID, CELL, WINDOW = 3, 21, 16
PLAIN = {"jitter": 0.0, "grayscale": 0.0, "blur": 0.0}


def patches(**changes: float) -> list[Spec]:
    """An image, and the patches of a crop of it."""
    common = {"crop_scale": (0.6, 1.0), **PLAIN, **changes}
    return [
        ViewSpec(32, **PLAIN),
        *(ViewSpec(WINDOW, patch=Patch(GRID, CELL, number), **common) for number in range(GRID**2)),
    ]


@pytest.fixture(scope="module")
def source() -> MemoryBeton:
    names = ("astronaut", "coffee", "chelsea")
    return MemoryBeton([photograph(names[i % 3], 90 + 7 * i, 150 - 9 * i) for i in range(6)])


def test_a_crop_is_shared_and_windows_stay_in_their_cells() -> None:
    rows = [draws.encode(spec) for spec in patches()]
    offsets = set()
    for sample in range(400):
        drawn = [draws.draw(row, 1, 2, sample, view, 100, 140) for view, row in enumerate(rows)]
        assert len({one[:4] for one in drawn[1:]}) == 1
        assert drawn[0][:4] != drawn[1][:4]
        assert 0.55 < drawn[1].height * drawn[1].width / (100 * 140) <= 1.0
        for number, one in enumerate(drawn[1:]):
            top, left = one.window_top - number // GRID * CELL, one.window_left - number % GRID * CELL
            offsets |= {top, left}
    assert offsets == set(range(CELL - WINDOW))  # vissl: 0 to 20 for 64 of 85 pixels
    assert (drawn[0].window_top, drawn[0].window_left) == (0, 0)
    flips = [draws.draw(rows[1], 1, 2, sample, 1, 100, 140).flip for sample in range(200)]
    assert flips != [draws.draw(rows[2], 1, 2, sample, 2, 100, 140).flip for sample in range(200)]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_patch_is_cut_out_of_the_resized_crop(source: MemoryBeton, interpolation: str) -> None:
    """torchvision: crop, resize to grid x cell pixels, cut; no resampling knows of the window."""
    specs = patches(flip=0.0, interpolation=interpolation)
    with FastLoader(source, views=specs, batch_size=6, seed=3, shuffle=False) as loader:
        batch = next(iter(loader.epoch(1)))
        made = [view.numpy().astype(np.float32) for view in batch.views]
    assert [view.shape[1] for view in made] == [32] + [WINDOW] * 9
    for sample in range(6):
        pixels = torch.from_numpy(source.image(sample)).permute(2, 0, 1).float()
        height, width = pixels.shape[1:]
        crop = draws.draw(draws.encode(specs[1]), 3, 1, sample, 1, height, width)
        whole = F.resized_crop(
            pixels, crop.top, crop.left, crop.height, crop.width, [GRID * CELL] * 2, InterpolationMode(interpolation)
        ).clamp(0, 255)
        for view in range(1, 10):
            drawn = draws.draw(draws.encode(specs[view]), 3, 1, sample, view, height, width)
            window = F.crop(whole, drawn.window_top, drawn.window_left, WINDOW, WINDOW).permute(1, 2, 0).numpy()
            assert np.abs(made[view][sample] - window).max() <= 0.51


def everything() -> list[Spec]:
    return patches(jitter=1.0, hue=0.2, grayscale=0.2, photometric=0.66)


@pytest.mark.parametrize("channels", [1, 3])
def test_fast_equals_plain(source: MemoryBeton, channels: int) -> None:
    """But for single pixels at a step of posterising or solarising, and what autocontrast makes of them."""
    arguments = {"views": everything(), "batch_size": 6, "seed": 5, "channels": channels}
    with FastLoader(source, **arguments) as fast, PlainLoader(source, **arguments) as plain:
        ours, theirs = next(iter(fast.epoch(0))), next(iter(plain.epoch(0)))
        assert torch.equal(ours.indices, theirs.indices)
        for one, other in zip(ours.views, theirs.views, strict=True):
            assert one.shape == other.shape
            assert ((one.int() - other.int()).abs() <= 1).float().mean() > 0.98


def test_the_device_makes_the_same(source: MemoryBeton) -> None:
    specs = everything()
    whole = FastLoader(source, views=specs, batch_size=6, seed=5)
    part = FastLoader(source, views=[batched.geometric(spec) for spec in specs], batch_size=6, seed=5)
    with whole, DeviceLoader(part, specs, torch.device("cpu")) as device:
        for one, other in zip(next(iter(whole.epoch(0))).views, next(iter(device.epoch(0))).views, strict=True):
            assert one.shape == other.shape
            # The device gets whole levels: posterising and solarising then tip more pixels by a step.
            assert ((one.int() - other.int()).abs() <= 3).float().mean() > 0.9


def test_wrong_patches_are_refused() -> None:
    with pytest.raises(UserError, match="patch 9 of a grid of 3"):
        Patch(3, 21, 9)
    with pytest.raises(UserError, match="a patch's size is 22"):
        ViewSpec(22, patch=Patch(3, 21, 0))
