"""Views of any number of bands: each band is distorted as a grey image would be, by both loaders and the device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from barlowctl.data.beton.layout import RAW
from barlowctl.data.beton.reader import Beton
from barlowctl.data.beton.writer import BetonWriter
from barlowctl.data.loaders import chain
from barlowctl.data.loaders.device import DeviceLoader
from barlowctl.data.loaders.fast import FastLoader
from barlowctl.data.loaders.plain import PlainLoader
from barlowctl.data.views import batched
from barlowctl.data.views.spec import CenterSpec, Spec, SquashSpec, ViewSpec
from barlowctl.errors import UserError
from tests.data.views_double import photograph

COUNT = 5
ALL = {"jitter": 1.0, "contrast": 0.6, "solarize": 0.3, "gamma": 0.4, "photometric": 0.5, "vertical_flip": 0.5}
VIEWS: list[Spec] = [
    ViewSpec(33, **ALL, rotate90=0.7),
    ViewSpec(24, interpolation="bilinear", brightness_added=True, jitter=1.0, grayscale=1.0, blur=0.5),
    CenterSpec(40, 32),
    SquashSpec(17),
]


def bands_of(index: int, channels: int) -> np.ndarray:
    """A photograph's colours and their mixtures, (H, W, channels)."""
    names = ("astronaut", "coffee", "chelsea")
    image = photograph(names[index % 3], 50 + 7 * index, 90 - 9 * index).astype(np.float64)
    mixed = np.random.default_rng(index).dirichlet(np.ones(3), channels)
    return (image @ mixed.T).astype(np.uint8)


def written(path: Path, images: list[np.ndarray]) -> Beton:
    with BetonWriter(path, len(images), channels=images[0].shape[2]) as writer:
        for image in images:
            writer.append(np.ascontiguousarray(image), mode=RAW, width=image.shape[1], height=image.shape[0])
        writer.finish()
    return Beton.open(path)


def views(loader: FastLoader | PlainLoader | DeviceLoader, epoch: int = 0) -> list[np.ndarray]:
    with loader:
        return [view.numpy().copy() for view in next(iter(loader.epoch(epoch))).views]


@pytest.mark.parametrize("channels", [2, 4, 5, 13, 64])
def test_each_band_is_what_a_grey_image_would_be(channels: int, tmp_path: Path) -> None:
    """To the byte, by the same draws: so bands are right where grey images are."""
    images = [bands_of(index, channels) for index in range(COUNT)]
    options = {"views": VIEWS, "batch_size": COUNT, "seed": 4, "shuffle": False}
    made = views(FastLoader(written(tmp_path / "bands.beton", images), channels=channels, **options))
    assert [view.shape for view in made] == [(COUNT, side, side, channels) for side in (33, 24, 32, 17)]
    for band in {0, 1, channels // 2, channels - 1}:
        grey = [np.repeat(image[..., band : band + 1], 3, axis=2) for image in images]
        alone = views(FastLoader(written(tmp_path / f"{band}.beton", grey), channels=1, **options))
        for ours, expected in zip(made, alone, strict=True):
            assert np.array_equal(ours[..., band], expected[..., 0])


@pytest.mark.parametrize("channels", [2, 6])
def test_both_loaders_and_the_device_make_the_same(channels: int, tmp_path: Path) -> None:
    source = written(tmp_path / "bands.beton", [bands_of(index, channels) for index in range(COUNT)])
    specs = [ViewSpec(32, jitter=1.0, contrast=0.6, blur=0.7, gamma=0.3, erase=0.8, rotate90=0.5), CenterSpec(40, 32)]
    options = {"batch_size": COUNT, "seed": 5, "channels": channels}
    part = FastLoader(source, views=[batched.geometric(spec) for spec in specs], **options)
    fast, slow, device = (
        views(loader)
        for loader in (
            FastLoader(source, views=specs, threads=2, **options),
            PlainLoader(source, views=specs, **options),
            DeviceLoader(part, specs, torch.device("cpu")),
        )
    )
    for ours, theirs, on_device in zip(fast, slow, device, strict=True):
        assert np.abs(ours.astype(int) - theirs).max() <= 1
        assert np.abs(ours.astype(int) - on_device).max() <= 2


def test_the_device_leaves_bands_to_torchs_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    from barlowctl.data.views import fused
    from barlowctl.data.views.parameters import draw_parameters

    monkeypatch.setattr(fused, "distort", None)
    parameters = draw_parameters(ViewSpec(16), 1, 1, np.arange(3), 0)
    pixels = torch.randint(0, 256, (3, 16, 16, 4), dtype=torch.uint8)
    assert chain.by_kernels()(pixels, parameters).shape == pixels.shape


@pytest.mark.parametrize("kind", [FastLoader, PlainLoader])
@pytest.mark.parametrize(("has", "other"), [(4, 3), (4, 1), (4, 5), (3, 4)])
def test_other_channels_than_there_are_are_refused(kind: type, has: int, other: int, tmp_path: Path) -> None:
    source = written(tmp_path / "bands.beton", [bands_of(0, has)])
    with pytest.raises(UserError, match=f"where images of {other} channels? are taken") as caught:
        kind(source, views=VIEWS, batch_size=1, channels=other)
    assert caught.value.allowed == (f"images of {other} bands" if other > 3 else "grey or coloured images")


def test_a_raw_image_of_another_length_is_unreadable(tmp_path: Path) -> None:
    source = written(tmp_path / "bands.beton", [bands_of(index, 4) for index in range(2)])
    source.widths[1] -= 1  # as a damaged file may have it
    with pytest.raises(UserError, match="sample 1"):
        views(FastLoader(source, views=VIEWS, batch_size=2, channels=4, seed=1, shuffle=False))
