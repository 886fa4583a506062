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
        np.zeros((4, 4, 5)),
        np.array(["a"]),
        np.zeros((0, 4, 4, 3)),
        torch.zeros(1, 2, 4, 4, dtype=torch.uint8),
        5,
        None,
    ):
        with pytest.raises(barlowctl.UserError):
            pixels(wrong)
    with pytest.raises(barlowctl.UserError, match="does not exist"):
        open_pictures("./nothing", "train", Choices())


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
