"""Somebody's data set is asked by the thread that packs it; what any thread may do, further threads do."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from barlowctl.data.beton.pack import pack
from barlowctl.data.sources import item
from barlowctl.data.sources.items import Items

COUNT = 24
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 24, 20, 3), np.uint8)


class Each:
    """Arrays, each with its own memory."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        return PIXELS[index].copy(), index % 2


class Overwriting(Each):
    """Items in memory that is written over by the next one: an array, a tensor or an image of Pillow's."""

    def __init__(self, kind: str) -> None:
        own = np.zeros(PIXELS[0].shape, np.uint8)
        self._own = {"array": own, "tensor": torch.from_numpy(own), "Pillow": Image.fromarray(own)}[kind]

    def __getitem__(self, index: int) -> Any:
        if isinstance(self._own, Image.Image):
            self._own.paste(Image.fromarray(PIXELS[index]))
        else:
            np.asarray(self._own)[:] = PIXELS[index]
        return self._own, index % 2


@pytest.mark.parametrize("kind", ["array", "tensor", "Pillow"])
def test_items_may_be_written_over_by_the_next_one(tmp_path: Path, kind: str) -> None:
    """Threads that encode are behind the one that asks."""
    expected = pack(Items(Each()), tmp_path / "each.beton", workers=3)
    actual = pack(Items(Overwriting(kind)), tmp_path / "one.beton", workers=3)
    assert actual.content_hash == expected.content_hash
    assert actual.unreadable == []


class Blob(io.BytesIO):
    """Somebody's stream, such as a blob of sqlite3: one thread may read it."""

    def read(self, *size: Any) -> bytes:
        assert threading.current_thread() is threading.main_thread()
        return super().read(*size)


class Opened(Each):
    """PNG files that Pillow has opened, and not decoded."""

    def __init__(self, folder: Path, stream: type[io.BytesIO] | None) -> None:
        self._folder, self._stream, self.threads = folder, stream, set[threading.Thread]()
        for index, pixels in enumerate(PIXELS):
            Image.fromarray(pixels).save(folder / f"{index}.png")

    def __getitem__(self, index: int) -> Any:
        self.threads.add(threading.current_thread())
        file = self._folder / f"{index}.png"
        return Image.open(file if self._stream is None else self._stream(file.read_bytes())), index % 2


@pytest.mark.parametrize("stream", [None, io.BytesIO, Blob])
def test_what_pillow_has_only_opened_is_decoded_by_further_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: type[io.BytesIO] | None
) -> None:
    """A stream of somebody's is not."""
    opened, of_pillow, decoding = Opened(tmp_path, stream), item._of_pillow, set[threading.Thread]()
    items = Items(opened)

    def noting(image: Image.Image) -> Any:
        decoding.add(threading.current_thread())
        return of_pillow(image)

    monkeypatch.setattr(item, "_of_pillow", noting)
    report = pack(items, tmp_path / "opened.beton", workers=2)
    assert report.content_hash == pack(Items(Each()), tmp_path / "each.beton").content_hash
    assert opened.threads == {threading.main_thread()}
    assert (threading.main_thread() in decoding) == (stream is Blob)
    assert len(decoding) <= 2
