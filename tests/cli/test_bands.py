"""Tiles of five bands through the whole tool: packed, looked at, trained on, measured, embedded, exported."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from barlowctl.cli.app import run as barlowctl
from barlowctl.data.beton.reader import Beton
from barlowctl.exports import read_export
from tests.docs.newcomer import NARROW, SMALL, sets

Captured = pytest.CaptureFixture[str]
BANDS = 5
SIGNATURES = np.array([[300, 900, 2400, 600, 1500], [2000, 600, 500, 2600, 900]])
"""Of two classes: what tells them apart is in the bands, not in their shapes."""


@pytest.fixture
def tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """GeoTIFF-like tiles of 16 bits, in folders of two classes, for training and testing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BARLOWCTL_DATA", str(tmp_path / "home"))
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 6)):
        for name, signature in zip(("field", "lake"), SIGNATURES, strict=True):
            folder = tmp_path / "tiles" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                tile = signature * random.uniform(0.5, 1.2, (24, 24, 1)) + random.normal(0, 30, (24, 24, BANDS))
                values = np.clip(tile, 0, 4000).astype(np.uint16)
                tifffile.imwrite(folder / f"{index}.tif", values, photometric="minisblack", planarconfig="contig")
    return tmp_path / "tiles"


def pack(tiles: Path) -> None:
    for split in ("train", "test"):
        flags = ["--split", split, "--bands", f"1-{BANDS}", "--range", "0:3000"]
        assert barlowctl(["data", "pack", str(tiles), "tiles", *flags]) == 0


def statistics(capsys: Captured) -> list[str]:
    """The flags that `data info --statistics` prints, as somebody would paste them."""
    capsys.readouterr()
    assert barlowctl(["data", "info", "tiles", "--statistics", "--json"]) == 0
    return shlex.split(json.loads(capsys.readouterr().out)["statistics"]["flags"])


def test_from_tiles_to_an_export(tiles: Path, capsys: Captured) -> None:
    pack(tiles)
    packed = Beton.open(next(Path("home").rglob("train.beton")))
    raw = tifffile.imread(tiles / "train" / "field" / "0.tif")
    expected = np.floor(np.clip(raw, 0, 3000) * 255.0 / 3000 + 0.5)
    assert np.array_equal(packed.image(0), expected)
    flags = statistics(capsys)
    assert flags[:2] == ["--set", f"data.channels={BANDS}"]

    assert barlowctl(["data", "preview", "--recipe", "quickstart", "--data", "tiles", *flags, "--out", "v.png"]) == 0
    assert f"of {BANDS} bands the picture has the first three as red, green and blue" in capsys.readouterr().out
    with Image.open("v.png") as picture:
        assert picture.mode == "RGB"

    small = [*sets(*SMALL, *NARROW, "data.holdout=0", "eval.queries=off", "views.first.rotate90=0.75"), *flags]
    command = ["pretrain", "--recipe", "quickstart", "--data", "tiles", *small, "--threads", "1", "--out", "run"]
    assert barlowctl(command) == 0
    assert barlowctl(["probe", "run", "--knn", "--threads", "1"]) == 0
    assert barlowctl(["embed", "run", "--out", "packed.npz", "--map", "map.html"]) == 0
    assert barlowctl(["embed", "run", "--data", str(tiles), "--out", "files.npz"]) == 0
    with np.load("packed.npz") as one, np.load("files.npz") as other:  # two loaders: a level of a pixel may differ
        np.testing.assert_allclose(one["features"], other["features"], atol=5e-3)

    capsys.readouterr()
    assert barlowctl(["export", "run", "--format", "timm", "--out", "weights.safetensors"]) == 0
    assert f"{BANDS} channels (bands 1-{BANDS}, values 0:3000 of the files) in [0, 1]" in capsys.readouterr().out
    assert read_export(Path("weights.safetensors")).preprocessing.bands == tuple(range(1, BANDS + 1))
    assert barlowctl(["embed", "weights.safetensors", "--data", str(tiles), "--out", "export.npz"]) == 0
    with np.load("files.npz") as one, np.load("export.npz") as other:
        np.testing.assert_allclose(one["features"], other["features"], atol=1e-5)


def test_what_is_set_otherwise_is_answered_by_what_would_do(tiles: Path, capsys: Captured) -> None:
    pack(tiles)
    preview = ["data", "preview", "--recipe", "quickstart", "--data"]
    for data, changes, message in (
        ("tiles", [], f"error: images of tiles have {BANDS} bands, and data.channels is 1"),
        (str(tiles), statistics(capsys), f"error: data.channels is {BANDS}, and no bands of the files in"),
    ):
        capsys.readouterr()
        assert barlowctl([*preview, data, *changes]) == 2
        text = capsys.readouterr().err
        assert message in text
        advised = shlex.split(next(line for line in text.splitlines() if line.startswith("next: barlowctl ")))[2:]
        assert barlowctl([*advised, "--out", f"{len(changes)}.png"]) == 0


def test_a_run_on_bands_takes_no_photographs(tiles: Path, capsys: Captured) -> None:
    pack(tiles)
    small = [*sets(*SMALL, *NARROW, "data.holdout=0", "eval.queries=off"), *statistics(capsys)]
    command = ["pretrain", "--recipe", "quickstart", "--data", "tiles", *small, "--threads", "1", "--out", "run"]
    assert barlowctl(command) == 0
    Path("photos").mkdir()
    for index in range(4):
        Image.new("RGB", (24, 24), (10 * index, 90, 40)).save(f"photos/{index}.png")
    assert barlowctl(["data", "pack", "photos", "./photos.beton"]) == 0
    for data, message in (
        ("photos", f"it has 3 channels, and {BANDS} bands were chosen"),
        ("photos.beton", f"holds grey or coloured images, where images of {BANDS} channels are taken"),
    ):
        capsys.readouterr()
        assert barlowctl(["embed", "run", "--data", data, "--out", "photos.npz"]) == 2
        assert message in capsys.readouterr().err
        assert not Path("photos.npz").exists()
