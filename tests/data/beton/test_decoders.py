"""Every decoder of JPEGs that the fast loader may have: right pixels, the same ones, and the same faults."""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.data.beton import decode, decoders
from tests.data.views_double import jpeg, photograph


def run(decoder: decoders.Decoder, data: bytes, height: int, width: int) -> tuple[int, np.ndarray]:
    source = np.frombuffer(b"\0\0\0" + data + b"\0", np.uint8)  # at an odd place, as in a file
    guard = 64
    target = np.full(height * width * 3 + guard, 7, np.uint8)
    status = decoder.read(source, 3, len(data), height, width, target)
    assert (target[height * width * 3 :] == 7).all(), "wrote past the image"
    return status, target[: height * width * 3].reshape(height, width, 3)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"exif": b"Exif\0\0" + bytes(900)}])
@pytest.mark.parametrize(("height", "width"), [(120, 160), (33, 17), (1, 1)])
def test_decodes_what_pillow_decodes(decoder: decoders.Decoder, height: int, width: int, options: dict) -> None:
    """To the level: the same inverse DCT, the same enlargement of chroma."""
    buffer = io.BytesIO()
    Image.fromarray(photograph(height=height, width=width)).save(buffer, "JPEG", quality=90, **options)
    status, pixels = run(decoder, buffer.getvalue(), height, width)
    expected = np.array(Image.open(buffer).convert("RGB")).astype(int)
    assert status == decode.OK
    assert np.abs(pixels - expected).max() <= 1
    assert np.abs(pixels - expected).mean() < 0.05


def test_grey_jpeg_has_three_equal_channels(decoder: decoders.Decoder) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photograph()).convert("L").save(buffer, "JPEG")
    status, pixels = run(decoder, buffer.getvalue(), 120, 160)
    assert status == decode.OK
    assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize(("height", "width"), [(119, 160), (120, 161), (160, 120), (60, 80), (240, 320)])
def test_a_header_of_another_size_is_refused_before_decoding(
    decoder: decoders.Decoder, height: int, width: int
) -> None:
    status, pixels = run(decoder, jpeg(photograph()), height, width)
    assert status == decode.WRONG_SIZE
    assert (pixels == 7).all()


@pytest.mark.parametrize("keep", [0, 1, 3, 20, 300, 0.5, 0.9])
def test_a_truncated_jpeg_is_reported(decoder: decoders.Decoder, keep: float) -> None:
    data = jpeg(photograph())
    status, _ = run(decoder, data[: int(keep * len(data)) if isinstance(keep, float) else keep], 120, 160)
    assert status in (decode.NOT_JPEG, decode.BROKEN_JPEG)


def test_damaged_tables_are_reported(decoder: decoders.Decoder) -> None:
    data = bytearray(jpeg(photograph()))
    at = bytes(data).index(b"\xff\xc4")  # Huffman table
    data[at + 5 : at + 21] = b"\xff" * 16
    assert run(decoder, bytes(data), 120, 160)[0] == decode.BROKEN_JPEG


def test_what_is_no_jpeg_is_reported(decoder: decoders.Decoder) -> None:
    for data in (b"", bytes(500), b"\xff\xd8" * 200, b"\xff\xd8\xff\xe0\0\0"):
        assert run(decoder, data, 120, 160)[0] == decode.NOT_JPEG


@pytest.mark.parametrize(("begin", "length"), [(-1, 50), (0, -1), (0, 10**6), (10**6, 50)])
def test_a_place_outside_of_the_file_is_not_read(begin: int, length: int) -> None:
    """Of the file's index, which may be damaged; kernels check it themselves (`read_sample`)."""
    pytest.importorskip("simplejpeg")
    decoder, data = decoders.SimplejpegDecoder(), np.frombuffer(jpeg(photograph()), np.uint8)
    target = np.zeros(120 * 160 * 3, np.uint8)
    assert decoder.read(data, begin, length, 120, 160, target) == decode.BAD_LENGTH
    assert not target.any()


def test_a_target_that_is_too_small_is_refused(decoder: decoders.Decoder) -> None:
    data, target = np.frombuffer(jpeg(photograph()), np.uint8), np.zeros(120 * 160 * 3 - 1, np.uint8)
    assert decoder.read(data, 0, len(data), 120, 160, target) == decode.WRONG_SIZE
    assert not target.any()


def every_kind() -> list[bytes]:
    """JPEGs of all samplings, progressive, grey, of odd sizes."""
    files = []
    for height, width in ((24, 32), (37, 41), (8, 8), (1, 1)):
        image = Image.fromarray(photograph(height=height, width=width))
        for options in ({"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"progressive": True}):
            for quality in (30, 90):
                buffer = io.BytesIO()
                image.save(buffer, "JPEG", quality=quality, **options)
                files.append(buffer.getvalue())
        buffer = io.BytesIO()
        image.convert("L").save(buffer, "JPEG")
        files.append(buffer.getvalue())
    return files


def both() -> list[decoders.Decoder]:
    there, lacking = decoders.by_package()
    if len(there) < 2:
        pytest.skip(lacking)
    return list(there.values())


def test_decoders_give_the_same_bytes() -> None:
    first, second = both()
    for data in every_kind():
        width, height = Image.open(io.BytesIO(data)).size
        (status, one), (other_status, two) = (run(decoder, data, height, width) for decoder in (first, second))
        assert status == other_status == decode.OK
        assert one.tobytes() == two.tobytes()


def test_decoders_agree_on_damage() -> None:
    """Bytes changed, cut or moved: refused by both or by none, and the same pixels where it is read."""
    first, second = both()
    generator = np.random.default_rng(0)
    outcomes = []
    for number, data in enumerate(every_kind() * 12):
        width, height = Image.open(io.BytesIO(data)).size
        damaged = bytearray(data)
        for at in generator.integers(0, len(data), 1 + number % 3):
            damaged[at] = generator.integers(0, 256)
        if number % 4 == 0:
            del damaged[generator.integers(0, len(data)) :]
        (status, one), (other_status, two) = (run(each, bytes(damaged), height, width) for each in (first, second))
        # The newer library refuses quantization tables with a zero, which `pack` looks for.
        if status != other_status:
            assert (status, other_status) == (decode.OK, decode.BROKEN_JPEG)
            outcomes.append("newer")
            continue
        outcomes.append(decode.PROBLEMS.get(status, "read"))
        if status == decode.OK:
            assert one.tobytes() == two.tobytes(), number
    assert outcomes.count("newer") < len(outcomes) / 100
    assert min(outcomes.count("read"), outcomes.count(decode.PROBLEMS[decode.BROKEN_JPEG])) > len(outcomes) / 10


def test_threads_decode_at_once(decoder: decoders.Decoder) -> None:
    data = jpeg(photograph())
    expected = run(decoder, data, 120, 160)[1].tobytes()
    results: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: results.extend(run(decoder, data, 120, 160)[1].tobytes() for _ in range(20)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 80


# ---- which one -------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Nothing is installed but what a test puts into this folder."""
    for name in ("ffcv", "simplejpeg", "simplejpeg._jpeg"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    decode._load.cache_clear()
    decoders.by_package.cache_clear()
    yield tmp_path
    decode._load.cache_clear()
    decoders.by_package.cache_clear()


def test_ffcv_is_chosen_where_it_is_there(monkeypatch: pytest.MonkeyPatch, fresh: Path) -> None:
    (fresh / "simplejpeg.py").write_text("decode_jpeg = None\n")
    chosen = decoders.chosen()
    assert chosen is not None
    assert (chosen.package, chosen.address) == ("simplejpeg", decode.DECODED)
    assert decoders.why_none() == "ffcv is not installed"
    decoders.by_package.cache_clear()
    monkeypatch.setattr(decode, "available", lambda: (True, "there"))
    monkeypatch.setattr(decode, "decoder_address", lambda: 1234)
    chosen = decoders.chosen()
    assert chosen is not None
    assert (chosen.package, chosen.address) == ("ffcv", 1234)
    assert (list(decoders.by_package()[0]), decoders.why_none()) == (["ffcv", "simplejpeg"], "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "ffcv is not installed, and simplejpeg is not installed"),
        ("import nothing_like_it", "and simplejpeg cannot be imported: No module named 'nothing_like_it'"),
        ("", "and simplejpeg cannot be imported: module 'simplejpeg' has no attribute 'decode_jpeg'"),
    ],
)
def test_why_there_is_none(fresh: Path, content: str | None, reason: str) -> None:
    if content is not None:
        (fresh / "simplejpeg.py").write_text(content)
    assert decoders.chosen() is None
    assert reason in decoders.why_none()
