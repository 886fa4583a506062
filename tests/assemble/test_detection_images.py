"""Annotated images with more than 8 bits, or more than three bands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.assemble.detection_images import open_images
from barlowctl.cli.app import run as barlowctl
from barlowctl.data.images.conversion import Choices
from barlowctl.data.images.unreadable import UnreadableImage

pytest.importorskip("pycocotools.mask")
tifffile = pytest.importorskip("tifffile")
SIZE = (40, 48)
TINY = ["--head", "fpn", "--iterations", "1", "--batch", "1", "--threads", "1", "--set", "short_sides=[64]",
        "--set", "longest=96", "--set", "test_short_side=64", "--set", "statistics=2"]  # fmt: skip


def write(folder: Path, values: Callable[[int], np.ndarray], *, sizes: bool = True) -> Path:
    """Six images to train on and three to test on in COCO's layout, an object in each; `values` of their numbers."""
    number = 0
    for split, count in (("train", 6), ("val", 3)):
        (folder / split).mkdir(parents=True)
        images, objects = [], []
        for index in range(count):
            array, number = values(number), number + 1
            if array.ndim == 2 and array.dtype == np.uint16:
                Image.fromarray(array).save(folder / split / f"{index}.png")
                file = f"{index}.png"
            else:
                file = f"{index}.tif"
                tifffile.imwrite(
                    folder / split / file,
                    array,
                    photometric="minisblack",
                    planarconfig="contig" if array.ndim == 3 else None,
                )
            declared = {"height": SIZE[0], "width": SIZE[1]} if sizes else {}
            images.append({"id": index + 1, "file_name": file, **declared})
            objects.append({"id": index + 1, "image_id": index + 1, "category_id": 1, "bbox": [5, 5, 20, 20]})
        document = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cell"}]}
        (folder / f"{split}.json").write_text(json.dumps(document))
    return folder


def deep(number: int) -> np.ndarray:
    """16 bits of which twelve are used; the brightest image is to train on."""
    return np.full(SIZE, 3000 if number == 2 else 500 + number, np.uint16)


def bands(number: int) -> np.ndarray:
    return np.broadcast_to(np.arange(1, 6, dtype=np.uint8) * 10 + number, (*SIZE, 5)).copy()


@pytest.mark.parametrize("sizes", [True, False])
def test_a_range_is_measured_once_of_the_training_images(tmp_path: Path, sizes: bool) -> None:
    training, test = open_images("coco", str(write(tmp_path / "deep", deep, sizes=sizes)))
    assert training.image(0)[0, 0].tolist() == [round(500 * 255 / 4095)] * 3
    assert training.image(2)[0, 0].tolist() == [round(3000 * 255 / 4095)] * 3
    assert test.image(0)[0, 0].tolist() == [round(506 * 255 / 4095)] * 3
    assert training.size(0) == SIZE
    assert "0 is black, 4,095 is white" in training.reading.conversion.notes()[0]


def test_a_range_and_bands_that_are_chosen_count(tmp_path: Path) -> None:
    training, _ = open_images("coco", str(write(tmp_path / "deep", deep)), Choices(range="0:6000"))
    assert training.image(2)[0, 0].tolist() == [round(3000 * 255 / 6000)] * 3
    training, test = open_images("coco", str(write(tmp_path / "bands", bands)), Choices(bands=(4, 3, 2)))
    assert training.image(1)[0, 0].tolist() == [41, 31, 21]
    assert test.image(0)[0, 0].tolist() == [46, 36, 26]


def test_an_image_names_all_that_it_lacks(tmp_path: Path) -> None:
    def both(number: int) -> np.ndarray:
        return bands(number).astype(np.float32) / 20

    training, _ = open_images("coco", str(write(tmp_path / "both", both)))
    with pytest.raises(UnreadableImage, match="a TIFF of 5 bands of float32") as error:
        training.image(0)
    assert error.value.setting.startswith("--set data.bands=[4,3,2] --set data.range=")


def test_what_is_advised_works_in_a_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [
        "transfer",
        "test_resnet",
        "--task",
        "coco",
        "--data",
        str(write(tmp_path / "bands", bands)),
        *TINY,
        "--dry-run",
    ]
    assert barlowctl([*command, "--set", "data.bands=[1,2,3,4,5]", "--out", "run"]) == 2
    says = capsys.readouterr().err
    assert "error: 5 bands are chosen (data.bands), and a detector's images are grey or RGB" in says
    assert "'data.bands=[1,2,3]'" in says.splitlines()[-1]
    assert barlowctl([*command, "--set", "data.bands=[4,3,2]", "--set", "data.range=type"]) == 0


def test_a_trial_is_named_by_the_range_of_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was trained under another one, measured of these images or typed, is another trial; 8 bits have none."""
    monkeypatch.chdir(tmp_path)
    noted = {}
    sets = {"deep": write(tmp_path / "deep", deep), "bytes": write(tmp_path / "bytes", lambda n: bands(n)[..., :3])}
    for name, flags in {"deep": [], "typed": ["--set", "data.range=0:6000"], "bytes": []}.items():
        data = str(sets["bytes" if name == "bytes" else "deep"])
        command = ["transfer", "test_resnet", "--task", "coco", "--data", data, *TINY, *flags, "--out", name, "--json"]
        assert barlowctl(command) == 0
        folder = Path(json.loads(capsys.readouterr().out)["trials"][0]["folder"])
        about = json.loads((folder / "run.json").read_text())
        noted[name] = (about.get("choices", {}).get("range"), folder.name)
    assert [chosen for chosen, _ in noted.values()] == ["uint16=0:4095", "0:6000", None]
    assert noted["deep"][1] != noted["typed"][1]
