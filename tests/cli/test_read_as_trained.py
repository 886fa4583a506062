"""A run on packed files with a range and bands of their own: files that it meets later are read as those were."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from barlowctl.cli.app import run as barlowctl
from tests.docs.newcomer import NARROW, SMALL, sets

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tiles of 13 bands that are brighter than the range they are packed with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BARLOWCTL_DATA", str(tmp_path / "home"))
    random = np.random.default_rng(0)
    (tmp_path / "tiles").mkdir()
    for index in range(8):
        tile = random.integers(0, 4000, (24, 24, 13)).astype(np.uint16)
        tifffile.imwrite(tmp_path / f"tiles/{index}.tif", tile, photometric="minisblack", planarconfig="contig")
    return tmp_path / "tiles"


def features(file: str) -> np.ndarray:
    with np.load(file, allow_pickle=False) as arrays:
        return arrays["features"]


@pytest.mark.parametrize(
    ("flags", "values"), [(["--range", "0:3000"], "0:3000"), ([], "uint16=0:4095")], ids=["set", "measured"]
)
def test_files_are_read_as_the_packed_ones_were(
    tiles: Path, capsys: Captured, flags: list[str], values: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert barlowctl(["data", "pack", str(tiles), "tiles", "--bands", "4,3,2", *flags]) == 0
    small = sets(*SMALL, *NARROW, "data.holdout=0", "eval.queries=off", "data.channels=3")
    images = sets("views.mean=[0.4,0.4,0.4]", "views.std=[0.2,0.2,0.2]")
    command = ["pretrain", "--recipe", "quickstart", "--data", "tiles", *small, *images, "--threads", "1"]
    assert barlowctl([*command, "--out", "run"]) == 0
    if not flags:  # darker tiles alone: their own values would give another range
        for file in tiles.glob("*.tif"):
            tifffile.imwrite(file, tifffile.imread(file) // 2, photometric="minisblack", planarconfig="contig")
        assert barlowctl(["data", "pack", str(tiles), "dark", "--bands", "4,3,2", "--range", "0:4095"]) == 0
    packed = "tiles" if flags else "dark"
    capsys.readouterr()
    for data, out in ((packed, "packed.npz"), (str(tiles), "files.npz")):
        assert barlowctl(["embed", "run", "--data", data, "--out", out]) == 0
    assert "packed before" not in capsys.readouterr().out or not flags
    np.testing.assert_allclose(features("packed.npz"), features("files.npz"), atol=1e-5)
    assert barlowctl(["export", "run", "--out", "weights.safetensors"]) == 0
    assert f"3 channels (bands 4, 3, 2, values {values} of the files) in [0, 1]" in capsys.readouterr().out
    assert barlowctl(["embed", "weights.safetensors", "--data", str(tiles), "--out", "export.npz"]) == 0
    np.testing.assert_allclose(features("export.npz"), features("files.npz"), atol=1e-5)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "files"])
def test_a_run_on_files_that_state_their_bits(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    """PNGs of 16 bits with an sBIT of 12: their range is 0 to 4,095."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BARLOWCTL_DATA", str(tmp_path / "home"))
    (tmp_path / "scans").mkdir()
    for index, tile in enumerate(np.random.default_rng(0).integers(0, 3000, (8, 24, 24)).astype(np.uint16)):
        Image.fromarray(tile).save(tmp_path / f"scans/{index}.png")
        data = (tmp_path / f"scans/{index}.png").read_bytes()
        chunk = b"sBIT" + bytes([12])
        at = data.index(b"IDAT") - 4
        (tmp_path / f"scans/{index}.png").write_bytes(
            data[:at] + (1).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[at:]
        )
    if packed:
        assert barlowctl(["data", "pack", "scans", "packed"]) == 0
    small = sets(*SMALL, *NARROW, "data.holdout=0", "eval.queries=off", "data.channels=1")
    command = ["pretrain", "--recipe", "quickstart", "--data", "packed" if packed else "scans", *small]
    assert barlowctl([*command, "--threads", "1", "--out", "run"]) == 0
    capsys.readouterr()
    assert barlowctl(["embed", "run", "--data", "scans", "--out", "files.npz"]) == 0
    assert barlowctl(["export", "run", "--out", "weights.safetensors"]) == 0
    assert "values uint16=0:4095 of the files" in capsys.readouterr().out
    assert barlowctl(["embed", "weights.safetensors", "--data", "scans", "--out", "export.npz"]) == 0
    np.testing.assert_allclose(features("export.npz"), features("files.npz"), atol=1e-5)


def test_what_is_said_at_the_measurement_counts(tiles: Path) -> None:
    """Another range, for files of another scale."""
    assert barlowctl(["data", "pack", str(tiles), "tiles", "--bands", "4,3,2", "--range", "0:3000"]) == 0
    small = sets(*SMALL, *NARROW, "data.holdout=0", "eval.queries=off", "data.channels=3")
    images = sets("views.mean=[0.4,0.4,0.4]", "views.std=[0.2,0.2,0.2]")
    command = ["pretrain", "--recipe", "quickstart", "--data", "tiles", *small, *images, "--threads", "1"]
    assert barlowctl([*command, "--out", "run"]) == 0
    assert barlowctl(["embed", "run", "--data", str(tiles), "--out", "own.npz"]) == 0
    halved = ["embed", "run", "--data", str(tiles), "--set", "data.range=0:1500", "--out", "halved.npz"]
    assert barlowctl(halved) == 0
    assert np.abs(features("own.npz") - features("halved.npz")).max() > 1e-3
