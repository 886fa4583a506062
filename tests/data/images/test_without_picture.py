"""FITS files and arrays that hold no picture are known by their headers, and counted where they lie among images."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from barlowctl.cli.app import run as barlowctl
from barlowctl.data.images import without_picture
from barlowctl.data.sources import open_source

Captured = pytest.CaptureFixture[str]
VALUES = np.arange(12 * 10, dtype=np.int16).reshape(12, 10)


def table(rows: int = 500) -> fits.BinTableHDU:
    columns = [fits.Column("ra", "D", array=np.arange(rows)), fits.Column("name", "20A", array=["a"] * rows)]
    return fits.BinTableHDU.from_columns(columns)


def written(*parts: object) -> bytes:
    stream = io.BytesIO()
    fits.HDUList(list(parts)).writeto(stream)
    return stream.getvalue()


def groups() -> bytes:
    """Random groups of the standard's section 6, of two images of 3 x 4 floats."""
    values = {"SIMPLE": "T", "BITPIX": -32, "NAXIS": 3, "NAXIS1": 0, "NAXIS2": 3, "NAXIS3": 4}
    values |= {"GROUPS": "T", "PCOUNT": 1, "GCOUNT": 2}
    cards = "".join(f"{key:<8}= {value:>20}".ljust(80) for key, value in values.items()) + "END"
    return cards.ljust(2880).encode() + bytes(2880)


@pytest.mark.parametrize(
    ("data", "without"),
    [
        (written(fits.PrimaryHDU(), table()), True),
        (written(fits.PrimaryHDU(), table(0), table(3)), True),
        (written(fits.PrimaryHDU(np.arange(5000.0))), True),  # a spectrum
        (written(fits.PrimaryHDU(np.arange(50.0)), fits.TableHDU.from_columns(table().columns[:1])), True),
        (written(fits.PrimaryHDU()), True),
        (written(fits.PrimaryHDU(VALUES)), False),
        (written(fits.PrimaryHDU(VALUES), table()), False),
        (written(fits.PrimaryHDU(), table(), fits.ImageHDU(VALUES)), False),
        (written(fits.PrimaryHDU(), fits.CompImageHDU(VALUES)), False),
        (written(fits.PrimaryHDU(), table())[:-2880], False),  # cut short: its reader says so
        (written(fits.PrimaryHDU(), table())[:4000], False),
        (groups(), False),
        (b"SIMPLE  = nothing of the kind", False),
        (b"", False),
    ],
)
def test_a_fits_file_without_a_picture(data: bytes, without: bool) -> None:
    assert without_picture.fits(io.BytesIO(data)) is without
    assert without_picture.fits(io.BytesIO(gzip.compress(data))) is without


def test_headers_of_several_blocks_are_read_to_their_end() -> None:
    first = fits.PrimaryHDU()
    for number in range(100):
        first.header[f"KEY{number}"] = (number, "a comment / with a slash")
    assert without_picture.fits(io.BytesIO(written(first, table()))) is True
    assert without_picture.fits(io.BytesIO(written(first, fits.ImageHDU(VALUES)))) is False


@pytest.mark.parametrize(
    ("values", "without"),
    [
        (np.arange(4.0), True),
        (np.float32(3), True),
        (np.zeros((2, 3, 4, 5)), True),
        (np.array([["a", "b"]]), True),
        (np.zeros((4, 5)), False),
        (np.zeros((3, 4, 5), np.uint8), False),
    ],
)
def test_an_array_that_is_no_image(values: np.ndarray, without: bool) -> None:
    stream = io.BytesIO()
    np.save(stream, values)
    assert without_picture.numpy(io.BytesIO(stream.getvalue())) is without
    assert without_picture.numpy(io.BytesIO(stream.getvalue()[:20])) is False


@pytest.fixture
def cutouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three cutouts, two catalogues and a file that is cut short."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "cutouts"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.fits").write_bytes(written(fits.PrimaryHDU(VALUES + number)))
    (folder / "catalogue.fits").write_bytes(written(fits.PrimaryHDU(), table()))
    (folder / "spectra.fits.gz").write_bytes(gzip.compress(written(fits.PrimaryHDU(), table())))
    (folder / "broken.fits").write_bytes(written(fits.PrimaryHDU(VALUES))[:3000])
    return folder


def archived(folder: Path, kind: str) -> Path:
    if kind == "zip":
        return Path(shutil.make_archive(str(folder), "zip", folder))
    with tarfile.open(folder.with_suffix(".tar"), "w") as archive:
        archive.add(folder, "cutouts")
    return folder.with_suffix(".tar")


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_catalogues_among_cutouts_are_counted(cutouts: Path, kind: str) -> None:
    source = open_source(cutouts if kind == "folder" else archived(cutouts, kind))
    assert sorted(Path(source.describe(index)[0]).name for index in range(len(source))) == [
        "0.fits", "1.fits", "2.fits", "broken.fits",
    ]  # fmt: skip
    skipped = source.scan_report.skipped[without_picture.FITS_KIND]
    assert skipped.count == 2
    assert [Path(name).name for name in skipped.examples] == ["catalogue.fits", "spectra.fits.gz"]


def test_they_stop_no_command_and_damaged_files_do(cutouts: Path, capsys: Captured) -> None:
    assert barlowctl(["data", "pack", "cutouts", "./x.beton", "--on-unreadable", "stop"]) == 2
    assert "broken.fits cannot be read" in capsys.readouterr().err
    (cutouts / "broken.fits").unlink()
    assert barlowctl(["data", "pack", "cutouts", "./x.beton", "--on-unreadable", "stop"]) == 0
    printed = capsys.readouterr().out
    assert (
        "passed over: FITS files without a picture (catalogues, spectra): 2 (catalogue.fits, spectra.fits.gz)"
        in printed
    )


def test_a_folder_of_catalogues_alone_has_no_images(cutouts: Path, capsys: Captured) -> None:
    for file in cutouts.iterdir():
        if file.name != "catalogue.fits":
            file.unlink()
    assert barlowctl(["data", "pack", "cutouts", "./x.beton"]) == 2
    assert "FITS files without a picture (catalogues, spectra): 1 (catalogue.fits)" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_labels_and_features_among_arrays_are_counted(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "arrays"
    folder.mkdir()
    for name, values in {"a": np.zeros((4, 5)), "b": np.zeros((4, 5)), "labels": np.arange(2)}.items():
        np.save(folder / f"{name}.npy", values)
    (folder / "readme.txt").write_text("an archive of arrays alone is one of NumPy's")
    source = open_source(folder if kind == "folder" else archived(folder, kind))
    assert sorted(source.describe(index)[0] for index in range(len(source))) == ["a.npy", "b.npy"]
    assert source.scan_report.skipped[without_picture.NUMPY_KIND].examples == ["labels.npy"]
