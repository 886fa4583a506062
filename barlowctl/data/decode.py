"""FFCV's JPEG decoder (libffcv's `imdecode`: libjpeg-turbo) inside our kernels, without importing ffcv.

`import ffcv` compiles for seconds and its own bindings bake pointers into kernels, which then cannot be
cached. Here the extension file is found and loaded with ctypes, and `imdecode` is called through its
address, a run-time argument: the kernels compile once, cache, and exist on machines without ffcv too,
where the address is 0 and only raw pixels can be read.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from pathlib import Path

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

# What became of a sample; the messages complete "sample 7 of images.beton ...".
OK, NOT_JPEG, WRONG_SIZE, BROKEN_JPEG, BAD_LENGTH, NO_DECODER, BAD_MODE = range(7)
PROBLEMS = {
    NOT_JPEG: "is not a JPEG image",
    WRONG_SIZE: "has another size than the file's index says",
    BROKEN_JPEG: "is a broken JPEG image",
    BAD_LENGTH: "has the wrong number of bytes",
    NO_DECODER: "is a JPEG image, and ffcv's decoder is not available",
    BAD_MODE: "is stored in a mode that is neither jpg nor raw",
}

JPG, RAW = 0, 1  # FFCV's numbers


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    """The library (kept loaded for the life of the process) and where it is, or None and why not."""
    try:
        spec = importlib.util.find_spec("ffcv")
    except (ImportError, ValueError) as error:
        return None, f"ffcv cannot be found: {error}"
    if spec is None or not spec.submodule_search_locations:
        return None, "ffcv is not installed"
    folders = [Path(folder) for folder in spec.submodule_search_locations]
    files = sorted(file for folder in folders for file in folder.glob("_libffcv*.so"))
    if not files:
        return None, f"ffcv in {folders[0]} has no compiled extension (_libffcv*.so)"
    try:
        library = ctypes.CDLL(str(files[0]))
        library.imdecode  # noqa: B018  the symbol must exist
    except (OSError, AttributeError) as error:
        return None, f"ffcv's extension cannot be loaded: {error}"
    return library, str(files[0])


def available() -> tuple[bool, str]:
    """Whether JPEGs can be decoded in kernels, and the extension's path or the reason why not."""
    library, where = _load()
    return library is not None, where


def decoder_address() -> int:
    """The address of `imdecode`, 0 where it is not available."""
    library, _ = _load()
    if library is None:
        return 0
    return ctypes.cast(library.imdecode, ctypes.c_void_p).value or 0


@intrinsic
def call_imdecode(typing_context, address, source, length, height, width, target):
    """int imdecode(source, length, height, width, target, height, width, 0, 0, 1, 1, false, false)."""
    signature = types.int32(types.int64, types.uintp, types.uint64, types.uint32, types.uint32, types.uintp)

    def code(context, builder, signature, arguments):
        address, source, length, height, width, target = arguments
        word, long, pointer = ir.IntType(32), ir.IntType(64), cgutils.voidptr_t
        function = ir.FunctionType(
            word, [pointer, long, word, word, pointer, word, word, word, word, word, word, word, word]
        )
        callee = builder.inttoptr(address, function.as_pointer())
        zero, one = ir.Constant(word, 0), ir.Constant(word, 1)
        return builder.call(
            callee,
            [
                builder.inttoptr(source, pointer),
                length,
                height,
                width,
                builder.inttoptr(target, pointer),
                height,
                width,
                zero,
                zero,
                one,
                one,
                zero,
                zero,
            ],
        )

    return signature, code


@njit(cache=True, nogil=True)
def jpeg_size(data, begin, length):
    """(height, width) in the frame header of the JPEG at data[begin : begin + length]; (0, 0): none found.

    Walks the marker segments (ITU T.81, B.1.1.4) to the first SOF, never past the end.
    """
    end = begin + length
    if length < 4 or data[begin] != 0xFF or data[begin + 1] != 0xD8:
        return 0, 0
    at = begin + 2
    while at + 4 <= end:
        if data[at] != 0xFF:
            return 0, 0
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:  # stands alone
            at += 2
        elif marker == 0xD9 or marker == 0xDA:  # image or scan before any frame
            return 0, 0
        elif 0xC0 <= marker <= 0xCF and marker != 0xC4 and marker != 0xC8 and marker != 0xCC:
            if at + 9 > end:
                return 0, 0
            return (
                (np.int64(data[at + 5]) << 8) | np.int64(data[at + 6]),
                (np.int64(data[at + 7]) << 8) | np.int64(data[at + 8]),
            )
        else:
            at += 2 + ((np.int64(data[at + 2]) << 8) | np.int64(data[at + 3]))
    return 0, 0


@njit(cache=True, nogil=True)
def decode_jpeg(address, data, begin, length, height, width, target):
    """Decode data[begin : begin + length] into target, uint8 (>= height width 3,), rows of RGB.

    Returns OK or what is wrong. A header that lies about the size is refused before decoding.
    """
    if address == 0:
        return NO_DECODER
    real_height, real_width = jpeg_size(data, begin, length)
    if real_height == 0:
        return NOT_JPEG
    if real_height != height or real_width != width or target.shape[0] < height * width * 3:
        return WRONG_SIZE
    source = np.uintp(data.ctypes.data) + np.uintp(begin)
    done = call_imdecode(
        np.int64(address),
        source,
        np.uint64(length),
        np.uint32(height),
        np.uint32(width),
        np.uintp(target.ctypes.data),
    )
    return OK if done == 0 else BROKEN_JPEG
