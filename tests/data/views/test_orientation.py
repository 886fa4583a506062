"""Vertical flips and turns by 90 degrees: how often, which pixels, and that every loader makes the same."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from barlowctl.data.loaders import kernel
from barlowctl.data.loaders.device import DeviceLoader
from barlowctl.data.loaders.fast import FastLoader
from barlowctl.data.loaders.plain import PlainLoader
from barlowctl.data.views import batched, draws, resize
from barlowctl.data.views.spec import Patch, ViewSpec
from tests.data.views_double import MemoryBeton, photograph

PLAIN = {"flip": 0.0, "jitter": 0.0, "grayscale": 0.0, "blur": 0.0}
WAYS = {"flip": 0.5, "vertical_flip": 0.5, "rotate90": 0.75}
COUNT = 10_000


@pytest.fixture(scope="module")
def source() -> MemoryBeton:
    return MemoryBeton([photograph("chelsea", 60 + 7 * i, 110 - 9 * i) for i in range(12)])


def test_frequencies_and_that_turns_are_equally_frequent() -> None:
    row = draws.encode(ViewSpec(32, vertical_flip=0.3, rotate90=0.6))
    drawn = [draws.draw(row, 1, 2, sample, 0, 90, 120) for sample in range(COUNT)]
    assert abs(sum(d.vertical_flip for d in drawn) / COUNT - 0.3) < 4 * math.sqrt(0.21 / COUNT)
    counts = Counter(d.turns for d in drawn)
    assert set(counts) == {0, 1, 2, 3}
    for turns, share in {0: 0.4, 1: 0.2, 2: 0.2, 3: 0.2}.items():
        assert abs(counts[turns] / COUNT - share) < 4 * math.sqrt(share * (1 - share) / COUNT)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_what_is_certain_and_what_is_off_by_default(p: float) -> None:
    row = draws.encode(ViewSpec(32, vertical_flip=p, rotate90=p))
    default = draws.encode(ViewSpec(32))
    for sample in range(500):
        drawn, usual = (draws.draw(each, 3, 0, sample, 0, 50, 40) for each in (row, default))
        assert (drawn.vertical_flip, drawn.turns > 0) == (bool(p), bool(p))
        assert usual == drawn._replace(vertical_flip=False, turns=0)  # the other draws are as they were


@pytest.mark.parametrize("size", [1, 7, 8, 33])
@pytest.mark.parametrize("channels", [1, 3])
def test_planes_are_transposed_in_place(size: int, channels: int) -> None:
    planes = np.random.default_rng(0).random((channels, size, size), dtype=np.float32)
    expected = planes.transpose(0, 2, 1).copy()
    resize.transpose(planes)
    assert np.array_equal(planes, expected)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("upside_down", [False, True])
@pytest.mark.parametrize("mirrored", [False, True])
def test_flips_then_turns_counterclockwise(mirrored: bool, upside_down: bool, turns: int) -> None:
    """torch's and torchvision's own, on the numbered pixels of a square."""
    drawn = draws.draw(draws.encode(ViewSpec(32)), 1, 1, 0, 0, 50, 40)
    image = torch.arange(36).reshape(1, 6, 6)
    expected = F.horizontal_flip(image) if mirrored else image
    expected = F.vertical_flip(expected) if upside_down else expected
    expected = torch.rot90(expected, turns, (1, 2))
    columns, rows, transposed = kernel.orientation(
        drawn._replace(flip=mirrored, vertical_flip=upside_down, turns=turns)
    )
    ours = image.flip(2) if columns else image
    ours = ours.flip(1) if rows else ours
    assert torch.equal(ours.transpose(1, 2) if transposed else ours, expected)


def test_a_view_is_the_plain_one_flipped_and_turned(source: MemoryBeton) -> None:
    """To the byte: no pixel is computed anew. All sixteen ways are met."""
    specs = [ViewSpec(24, **PLAIN), ViewSpec(24, **{**PLAIN, **WAYS})]
    met = set()
    for epoch in range(12):
        plain, turned = (next(iter(_loader(source, [spec]).epoch(epoch))).views[0] for spec in specs)
        for sample in range(12):
            drawn = draws.draw(draws.encode(specs[1]), 3, epoch, sample, 0, 1, 1)
            expected = plain[sample].permute(2, 0, 1)
            expected = F.horizontal_flip(expected) if drawn.flip else expected
            expected = F.vertical_flip(expected) if drawn.vertical_flip else expected
            expected = torch.rot90(expected, drawn.turns, (1, 2))
            assert torch.equal(turned[sample].permute(2, 0, 1), expected)
            met.add((drawn.flip, drawn.vertical_flip, drawn.turns))
    assert len(met) == 16


def _loader(source: MemoryBeton, views: list[ViewSpec]) -> FastLoader:
    return FastLoader(source, views=views, batch_size=12, seed=3, shuffle=False)


@pytest.mark.parametrize("channels", [1, 3])
def test_both_loaders_and_the_device_make_the_same(source: MemoryBeton, channels: int) -> None:
    """With blur and an erased rectangle, which come after the turn; and of patches."""
    erased = {**WAYS, "jitter": 0.0, "blur": 0.7, "erase": 0.7}
    specs = [ViewSpec(32, **erased), *(ViewSpec(16, patch=Patch(3, 21, number), **erased) for number in (0, 5))]
    arguments = {"batch_size": 12, "seed": 5, "channels": channels}
    part = FastLoader(source, views=[batched.geometric(spec) for spec in specs], **arguments)
    with (
        FastLoader(source, views=specs, **arguments) as fast,
        PlainLoader(source, views=specs, **arguments) as slow,
        DeviceLoader(part, specs, torch.device("cpu")) as device,
    ):
        batches = [next(iter(loader.epoch(0))).views for loader in (fast, slow, device)]
        for ours, theirs, on_device in zip(*batches, strict=True):
            assert (ours.int() - theirs.int()).abs().max() <= 1
            assert (ours.int() - on_device.int()).abs().max() <= 1
