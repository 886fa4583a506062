"""A file is known by its content, whatever its name says."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.data.sources import open_source
from barlowctl.data.sources.file_kind import kind_of
from barlowctl.errors import UserError


def _png() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (4, 4), 9).save(stream, "PNG")
    return stream.getvalue()


PNG = _png()


def _tar(mode: str = "w", kind: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode, format=kind) as shard:  # type: ignore[call-overload]
        for name in ("a/1.png", "b/2.png"):
            header = tarfile.TarInfo(name)
            header.size = len(PNG)
            shard.addfile(header, io.BytesIO(PNG))
    return stream.getvalue()


def _old_tar() -> bytes:
    """As before POSIX.1-1988: without the mark, the checksum made anew."""
    data = bytearray(_tar(kind=tarfile.USTAR_FORMAT))
    data[257:265] = bytes(8)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


def _zip(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, PNG)
    return stream.getvalue()


def _parquet() -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    stream = io.BytesIO()
    parquet.write_table(pa.table({"image": [PNG, PNG], "label": ["a", "b"]}), stream)
    return stream.getvalue()


def _npz(save: Callable[..., None]) -> bytes:
    stream = io.BytesIO()
    save(stream, images=np.zeros((2, 6, 6), np.uint8))
    return stream.getvalue()


def _npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros((2, 6, 6), np.uint8))
    return stream.getvalue()


IDX = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (2, 4, 4)) + bytes(32)
READ = {
    "tar": _tar(),
    "old tar": _old_tar(),
    "zip": _zip("a/1.png", "b/2.png"),
    "parquet": _parquet(),
    "idx": IDX,
    "idx.gz": gzip.compress(IDX),
    "npz": _npz(np.savez),
    "compressed npz": _npz(np.savez_compressed),
    "npy": _npy(),
    "list": b"1.png\ta\n2.png\tb\n",
    "list in UTF-16": "1.png\ta\r\n2.png\tb\r\n".encode("utf-16"),
}


@pytest.mark.parametrize("name", ["x", "x.dat", "x.txt", "x.zip", "x.tar.gz", "my-idx-files.parquet"])
@pytest.mark.parametrize("kind", READ)
def test_two_images_whatever_the_file_is_called(tmp_path: Path, kind: str, name: str) -> None:
    for image in ("1.png", "2.png"):
        (tmp_path / image).write_bytes(PNG)
    (tmp_path / name).write_bytes(READ[kind])
    source = open_source(tmp_path / name)
    assert len(source) == 2
    array = "idx" in kind or "np" in kind
    assert source[1].data == PNG if not array else source[1].data.shape == ((4, 4) if "idx" in kind else (6, 6))
    assert source.class_names == ([] if array else ["a", "b"])


def test_a_single_image_without_an_ending(tmp_path: Path) -> None:
    (tmp_path / "scan").write_bytes(PNG)
    assert open_source(tmp_path / "scan")[0].data == PNG


@pytest.mark.parametrize(
    ("name", "data", "message", "advice"),
    [
        ("x.txt", _tar("w:gz"), "compressed tar file", "tar xf"),
        ("x.tar", _tar("w:xz"), "compressed tar file", "tar xf"),
        ("x.tbz", _tar("w:bz2"), "compressed tar file", "tar xf"),
        ("x.jpg", b"%PDF-1.7\n\xff", "content is that of PDF documents", "pdfimages"),
        ("x.tar", b"\x89HDF\r\n\x1a\n" + bytes(600), "cannot be read as an HDF5 file", "copy it again"),
        ("x", b"\x89HDF\r\n\x1a\n" + bytes(600), "cannot be read as an HDF5 file", "copy it again"),
        ("x", b"\xfe\x01\x07\x02" * 200, "no known kind", ""),
        ("x", b"", "is empty", ""),
        ("README.md", b"# Photos\n\nMine.\n", "line 3: 'Mine.' is not there", ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # an archive's bytes hold the time it was made at
)
def test_what_is_not_read_says_what_it_is(tmp_path: Path, name: str, data: bytes, message: str, advice: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        open_source(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert advice in caught.value.next if advice else caught.value.next is None


def test_a_packed_file_is_known_as_one(tmp_path: Path) -> None:
    from barlowctl.data.beton.pack import pack

    (tmp_path / "1.png").write_bytes(PNG)
    pack(open_source(tmp_path / "1.png"), tmp_path / "x.beton")
    (tmp_path / "x.beton").rename(tmp_path / "x.dat")
    assert kind_of(tmp_path / "x.dat") == "packed"
    with pytest.raises(UserError, match="is packed already"):
        open_source(tmp_path / "x.dat")


def test_idx_in_the_name_of_another_file(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx.txt").write_text("1 2 3")
    (tmp_path / "a.png").write_bytes(PNG)
    assert open_source(tmp_path).describe(0) == ("a.png", -1)
