"""ffcv's decoder inside kernels, without importing ffcv, and what kernels see of a JPEG by themselves."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from barlowctl.data.beton import decode
from tests.data.views_double import jpeg, photograph

needs_ffcv = pytest.mark.skipif(not decode.available()[0], reason=decode.available()[1])


def run(data: bytes, height: int, width: int, address: int | None = None) -> tuple[int, np.ndarray]:
    source = np.frombuffer(b"\0\0\0" + data + b"\0", np.uint8)  # at an odd place, as in a file
    guard = 64
    target = np.full(height * width * 3 + guard, 7, np.uint8)
    address = decode.decoder_address() if address is None else address
    status = decode.decode_jpeg(address, decode.thread_handle(), source, 3, len(data), height, width, target)
    assert (target[height * width * 3 :] == 7).all(), "wrote past the image"
    return status, target[: height * width * 3].reshape(height, width, 3)


@needs_ffcv
def test_every_thread_has_a_decompressor_of_its_own() -> None:
    handles = [decode.thread_handle()]  # before a thread that ended leaves its place in memory to it
    both = threading.Barrier(2)

    def work() -> None:
        handles.append(decode.thread_handle())
        both.wait()
        assert decode.thread_handle() in handles

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(handles)) == 3
    assert decode.thread_handle() == handles[0]
    assert 0 not in handles


def test_what_is_not_a_jpeg_is_reported() -> None:
    buffer = io.BytesIO()
    Image.fromarray(photograph()).save(buffer, "PNG")
    for data in (
        buffer.getvalue(),
        bytes(500),
        b"\xff\xd8" * 200,
        b"\xff\xd8\xff" + b"\xff" * 50,
        b"\xff\xd8\xff\xe0\0\0",
    ):
        assert run(data, 120, 160, address=1)[0] == decode.NOT_JPEG


def test_what_lies_behind_the_end_is_not_read() -> None:
    """A JPEG cut anywhere in its header has one size, whatever follows in the file: its own rest, or another image."""
    whole = jpeg(photograph())
    rng = np.random.default_rng(0)
    random = [b"\xff\xd8\xff" + rng.integers(0, 256, 60).astype(np.uint8).tobytes() for _ in range(50)]
    for data, lengths in [(whole, range(4, 300)), *((data, range(4, len(data))) for data in random)]:
        sizes = []
        for length in lengths:
            rests = (bytes(300), b"\xff\xc0" * 150, data[length:] + bytes(300))
            outcomes = {decode.jpeg_size(np.frombuffer(data[:length] + rest, np.uint8), 0, length) for rest in rests}
            assert len(outcomes) == 1, length
            sizes += outcomes
        assert data is not whole or (sizes[0] == (0, 0) and sizes[-1] == (120, 160))


def test_without_the_decoder_it_says_so() -> None:
    assert run(jpeg(photograph()), 120, 160, address=0)[0] == decode.NO_DECODER


def test_what_the_caller_has_decoded_is_left_as_it_is() -> None:
    status, pixels = run(jpeg(photograph()), 120, 160, address=decode.DECODED)
    assert status == decode.OK
    assert (pixels == 7).all()


def test_every_fault_has_a_message() -> None:
    assert sorted(decode.PROBLEMS) == list(range(1, 7))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "not installed"),
        (
            lambda path: (path / "ffcv").mkdir() or (path / "ffcv/__init__.py").touch(),
            "no compiled extension",
        ),
        (
            lambda path: (
                (path / "ffcv").mkdir()
                or (path / "ffcv/__init__.py").touch()
                or (path / "ffcv/_libffcv.so").write_bytes(b"no library")
            ),
            "cannot be loaded",
        ),
    ],
)
def test_availability_says_why_not(tmp_path, monkeypatch: pytest.MonkeyPatch, make, reason: str) -> None:
    make(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "ffcv", raising=False)
    decode._load.cache_clear()
    try:
        there, why = decode.available()
        assert not there
        assert reason in why
        assert decode.decoder_address() == decode.thread_handle() == 0
    finally:
        decode._load.cache_clear()


@needs_ffcv
def test_loading_the_decoder_does_not_import_ffcv(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "ffcv"]:
        monkeypatch.delitem(sys.modules, name)  # another test may have imported it whole
    decode._load.cache_clear()
    assert decode.available()[0]
    assert "ffcv" not in sys.modules


@needs_ffcv
@pytest.mark.slow
def test_kernels_are_cached_across_processes_and_ffcv_is_not_imported(tmp_path) -> None:
    """Two processes with a fresh cache: the second compiles nothing and decodes the same pixels."""
    code = (
        "import sys, hashlib\n"
        "from tests.data.views_double import MemoryBeton, jpeg, photograph\n"
        "from barlowctl.data.loaders.fast import FastLoader\n"
        "from barlowctl.data.views.spec import ViewSpec\n"
        "from barlowctl.data.loaders.kernel import fill\n"
        "loader = FastLoader(MemoryBeton([jpeg(photograph())] * 4), views=[ViewSpec(32)] * 2, batch_size=4, seed=0)\n"
        "batch = next(loader.epoch(0))\n"
        "print(hashlib.sha256(batch.views[0].numpy().tobytes()).hexdigest())\n"
        "print(sum(fill.stats.cache_hits.values()), sum(fill.stats.cache_misses.values()), 'ffcv' in sys.modules)\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert first.stdout.split()[0] == second.stdout.split()[0]
    assert first.stdout.split()[1:] == ["0", "1", "False"]
    assert second.stdout.split()[1:] == ["1", "0", "False"]
