"""What decodes JPEGs for the fast loader: ffcv's decoder within kernels, or simplejpeg's, a wheel, between them.

Both are libjpeg-turbo with its accurate inverse DCT. They write into the caller's memory with the interpreter's lock
released, refuse what is damaged, and give the same pixels.
"""

from __future__ import annotations

import functools
import importlib.util
from importlib import metadata
from typing import Any, Protocol

import numpy as np

from barlowctl.data.beton import decode


class Decoder(Protocol):
    """One of the decoders.

    package: whose it is.    address: for kernels, which then decode by themselves; DECODED: they cannot, `read` first.
    """

    package: str
    address: int

    def thread_handle(self) -> int:
        """What kernels need beside the address, of the calling thread."""

    def read(self, data: np.ndarray, begin: int, length: int, height: int, width: int, target: np.ndarray) -> int:
        """Decode data[begin : begin + length] into target, uint8 (>= height width 3,), as `decode.decode_jpeg` does."""


class FfcvDecoder:
    """libjpeg-turbo as ffcv links it, called by kernels."""

    package = "ffcv"

    def __init__(self) -> None:
        self.address = decode.decoder_address()

    def thread_handle(self) -> int:
        return decode.thread_handle()

    def read(self, data: np.ndarray, begin: int, length: int, height: int, width: int, target: np.ndarray) -> int:
        handle = self.thread_handle()
        return int(decode.decode_jpeg(self.address, handle, data, begin, length, height, width, target))


class SimplejpegDecoder:
    """libjpeg-turbo in simplejpeg's wheel. Its functions are Python's, so no kernel can call them."""

    package = "simplejpeg"
    address = decode.DECODED

    def __init__(self) -> None:
        import simplejpeg

        self._decode: Any = simplejpeg.decode_jpeg

    def thread_handle(self) -> int:
        return 0

    def read(self, data: np.ndarray, begin: int, length: int, height: int, width: int, target: np.ndarray) -> int:
        if begin < 0 or length < 0 or begin + length > len(data):
            return decode.BAD_LENGTH
        size = decode.jpeg_size(data, begin, length)
        if size == (0, 0):
            return decode.NOT_JPEG
        if size != (height, width) or len(target) < height * width * 3:
            return decode.WRONG_SIZE
        try:
            pixels = self._decode(data[begin : begin + length], colorspace="RGB", buffer=target)
        except ValueError:  # libjpeg-turbo's errors, and its warnings: it is strict
            return decode.BROKEN_JPEG
        return decode.OK if pixels.shape == (height, width, 3) else decode.WRONG_SIZE


@functools.cache
def by_package() -> tuple[dict[str, Decoder], str]:
    """The decoders that are there, the fastest first, and why the others are not."""
    decoders: dict[str, Decoder] = {}
    lacking = []
    there, why = decode.available()
    if there:
        decoders["ffcv"] = FfcvDecoder()
    else:
        lacking.append(why)
    try:
        if importlib.util.find_spec("simplejpeg") is None:
            lacking.append("simplejpeg is not installed")
        else:
            decoders["simplejpeg"] = SimplejpegDecoder()
    except (ImportError, ValueError, AttributeError) as error:
        lacking.append(f"simplejpeg cannot be imported: {error}")
    return decoders, ", and ".join(lacking)


def chosen() -> Decoder | None:
    """The decoder that is used; None: there is none, and only the plain loader reads JPEGs."""
    return next(iter(by_package()[0].values()), None)


def why_none() -> str:
    """Why there is no decoder, or why the fastest one is not there."""
    return by_package()[1]


def described(decoder: Decoder) -> str:
    """Package and version."""
    return f"{decoder.package} {metadata.version(decoder.package)}"
