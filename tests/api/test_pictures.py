"""Images that somebody has in memory, and a list of files to train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import barlowctl
from barlowctl.api.pictures import folder_of, open_pictures
from barlowctl.data.images.conversion import Choices
from barlowctl.data.sources import open_source
from barlowctl.exports import ExportedModel, export
from barlowctl.model import Preprocessing, build_backbone


def pixels(image: object) -> np.ndarray:
    return open_pictures(image, "train", Choices()).image(0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_every_mode_of_pillow_is_shown(mode: str) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
    image = Image.fromarray(ramp)
    image = Image.fromarray(ramp.astype(np.uint16) * 256) if mode == "I;16" else image.convert("RGB").convert(mode)
    if mode == "F":
        image = Image.fromarray(ramp.astype(np.float32) / 255)
    result = pixels(image)
    assert (result.shape, result.dtype) == ((8, 8, 3), np.uint8)
    expected = (ramp > 127) * 255 if mode == "1" else ramp
    tolerance = {"1": 255, "CMYK": 2, "YCbCr": 2, "P": 40, "I;16": 2, "F": 2}.get(mode, 0)
    assert np.abs(result[..., 0].astype(int) - expected).max() <= tolerance


def test_what_is_no_image_is_refused() -> None:
    for wrong in (
        np.zeros((66, 4, 65)),
        np.array(["a"]),
        np.zeros((0, 4, 4, 3)),
        torch.zeros(1, 65, 4, 4, dtype=torch.uint8),
        5,
        None,
    ):
        with pytest.raises(barlowctl.UserError):
            pixels(wrong)
    with pytest.raises(barlowctl.UserError, match="does not exist"):
        open_pictures("./nothing", "train", Choices())


def test_arrays_of_bands_are_read_as_they_are() -> None:
    """By themselves, or where as many are chosen; not where a network has chosen others."""
    tiles = np.random.default_rng(0).integers(0, 256, (2, 6, 7, 5), dtype=np.uint8)
    for images in (tiles, list(tiles), torch.from_numpy(tiles).permute(0, 3, 1, 2)):
        for choices in (Choices(), Choices(bands=(9, 8, 1, 2, 3))):
            opened = open_pictures(images, "train", choices)
            assert opened.stored_channels == 5
            assert np.array_equal(opened.image(1), tiles[1])
    deep = open_pictures(tiles.astype(np.uint16) * 10, "train", Choices(range="0:2550"))
    assert np.array_equal(deep.image(0), tiles[0])
    with pytest.raises(barlowctl.UserError, match="images: images of 1 and of 4 and of 5 channels"):
        open_pictures([tiles[0, ..., :4], tiles[1], tiles[0, ..., 0]], "train", Choices())
    with pytest.raises(barlowctl.UserError, match="it has 5 channels, and 2 bands were chosen"):
        open_pictures(tiles, "train", Choices(bands=(1, 2))).image(0)
    with pytest.raises(barlowctl.UserError, match="it has 5 channels, and 4 bands were chosen"):
        open_pictures([tiles[0, ..., :4], tiles[1]], "train", Choices(bands=(1, 2, 3, 4))).image(1)


def test_features_of_arrays_of_bands(tmp_path: Path) -> None:
    """Of an export of five channels, against its network on pixels that are normalised here."""
    torch.manual_seed(0)
    narrow = {"channels": [8, 8, 8, 8], "stem_width": 8}
    backbone = build_backbone("resnet10t", in_chans=5, stem="default", **narrow).eval()
    preprocessing = Preprocessing(resize=32, crop=32, interpolation="bicubic", mean=(0.4,) * 5, std=(0.2,) * 5)
    model = ExportedModel(
        backbone=backbone, architecture="resnet10t", timm_args=narrow, stem="default", preprocessing=preprocessing
    )
    export(model, tmp_path / "five.safetensors", "timm")
    tiles = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 5), dtype=np.uint8)
    made = barlowctl.features(tmp_path / "five.safetensors", tiles, threads=1).features
    inputs = torch.from_numpy(tiles).permute(0, 3, 1, 2).float().div(255).sub(0.4).div(0.2)
    with torch.inference_mode():
        np.testing.assert_allclose(made, backbone(inputs).numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(barlowctl.UserError, match="holds images of 4 bands, where images of 5 channels are taken"):
        barlowctl.features(tmp_path / "five.safetensors", tiles[..., :4].copy())


def test_a_list_of_files_is_a_folder_in_its_order(tmp_path: Path) -> None:
    files = []
    for number in (3, 1, 2):
        (tmp_path / str(number)).mkdir()
        files.append(tmp_path / str(number) / "same.png")
        Image.fromarray(np.full((9, 9), number, np.uint8)).save(files[-1])
    folder = folder_of(files)
    source = open_source(folder)
    assert [int(open_pictures(folder, "train", Choices()).image(index)[0, 0, 0]) for index in range(len(source))] == [
        3,
        1,
        2,
    ]
    assert folder_of([str(file) for file in files]) == folder
    assert folder_of(files[:2]) != folder
    for wrong in ([], [*files, tmp_path / "gone.png"], [Image.new("L", (4, 4))], np.zeros((2, 4, 4)), 5):
        with pytest.raises(barlowctl.UserError):
            folder_of(wrong)  # type: ignore[arg-type]


def test_a_list_of_files_may_become_a_folder_twice_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    folder = folder_of([tmp_path / "a.png"])
    is_folder = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda path: str(path) != folder and is_folder(path))  # as a rank a moment ago
    assert folder_of([tmp_path / "a.png"]) == folder
    assert [path.name for path in Path(folder).parent.iterdir()] == [Path(folder).name]
