"""FFCV's JPEG decoder (the libjpeg-turbo that libffcv links) inside our kernels, without importing ffcv.

`import ffcv` compiles for seconds and its own bindings bake pointers into kernels, which then cannot be
cached. Here the extension file is found and loaded with ctypes, and `tjDecompress2` is called through its
address, a run-time argument: the kernels compile once, cache, and exist on machines without ffcv too, where
`decoders` has another decoder, which is called between kernels.

libffcv's own `imdecode` asks for the fast inverse DCT, which is a grey level darker on average and up to 20 off. The
accurate one costs a hundredth of the decoding and gives Pillow's pixels; so the library below is called directly.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import threading
import weakref
from pathlib import Path

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from barlowctl.kernel_cache import njit

# What became of a sample; the messages complete "... cannot be read: ".
OK, NOT_JPEG, WRONG_SIZE, BROKEN_JPEG, BAD_LENGTH, NO_DECODER, BAD_MODE = range(7)
PROBLEMS = {
    NOT_JPEG: "not a JPEG image",
    WRONG_SIZE: "another size than the file's index says",
    BROKEN_JPEG: "a broken JPEG image",
    BAD_LENGTH: "the wrong number of bytes",
    NO_DECODER: "a JPEG image, and there is no decoder",
    BAD_MODE: "stored in a mode that is neither jpg nor raw",
}

JPG, RAW = 0, 1  # FFCV's numbers
ACCURATE_DCT = 4096  # turbojpeg.h: TJFLAG_ACCURATEDCT
DECODED = -1  # in the place of an address: the caller has decoded the image


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
        for name in ("tjInitDecompress", "tjDecompress2", "tjDestroy"):
            getattr(library, name)  # the symbol must exist: the linker finds it in the libraries below
    except (OSError, AttributeError) as error:
        return None, f"ffcv's extension cannot be loaded: {error}"
    return library, str(files[0])


def available() -> tuple[bool, str]:
    """Whether JPEGs can be decoded in kernels, and the extension's path or the reason why not."""
    library, where = _load()
    return library is not None, where


def decoder_address() -> int:
    """The address of `tjDecompress2`, 0 where it is not available."""
    library, _ = _load()
    if library is None:
        return 0
    return ctypes.cast(library.tjDecompress2, ctypes.c_void_p).value or 0


class _Handle:
    """A decompressor of libjpeg-turbo: one thread's, freed when that thread ends."""

    def __init__(self, library: ctypes.CDLL) -> None:
        library.tjInitDecompress.restype = ctypes.c_void_p
        self.value = int(library.tjInitDecompress() or 0)
        if not self.value:
            raise MemoryError("libjpeg-turbo has no memory for a decompressor")
        weakref.finalize(self, library.tjDestroy, ctypes.c_void_p(self.value))


_of_thread = threading.local()


def thread_handle() -> int:
    """This thread's decompressor, made at its first call; 0 where there is no decoder."""
    library, _ = _load()
    if library is None:
        return 0
    if not hasattr(_of_thread, "handle"):
        _of_thread.handle = _Handle(library)
    return int(_of_thread.handle.value)


@intrinsic
def call_decompress(typing_context, address, handle, source, length, target, width, height):
    """int tjDecompress2(handle, source, length, target, width, pitch 0, height, TJPF_RGB, TJFLAG_ACCURATEDCT)."""
    signature = types.int32(types.int64, types.int64, types.uintp, types.uint64, types.uintp, types.int32, types.int32)

    def code(context, builder, signature, arguments):
        address, handle, source, length, target, width, height = arguments
        word, long, pointer = ir.IntType(32), ir.IntType(64), cgutils.voidptr_t
        function = ir.FunctionType(word, [pointer, pointer, long, pointer, word, word, word, word, word])
        callee = builder.inttoptr(address, function.as_pointer())
        addresses = [builder.inttoptr(value, pointer) for value in (handle, source, target)]
        zero, accurate = ir.Constant(word, 0), ir.Constant(word, ACCURATE_DCT)
        handle, source, target = addresses
        return builder.call(callee, [handle, source, length, target, width, zero, height, zero, accurate])

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
def decode_jpeg(address, handle, data, begin, length, height, width, target):
    """Decode data[begin : begin + length] into target, uint8 (>= height width 3,), rows of RGB.

    address, handle: `decoder_address`, and the calling thread's `thread_handle`; or DECODED and 0: it lies there.

    Returns OK or what is wrong. A header that lies about the size is refused before decoding.
    """
    if address == DECODED:
        return OK
    if address == 0:
        return NO_DECODER
    real_height, real_width = jpeg_size(data, begin, length)
    if real_height == 0:
        return NOT_JPEG
    if real_height != height or real_width != width or target.shape[0] < height * width * 3:
        return WRONG_SIZE
    source = np.uintp(data.ctypes.data) + np.uintp(begin)
    done = call_decompress(
        np.int64(address),
        np.int64(handle),
        source,
        np.uint64(length),
        np.uintp(target.ctypes.data),
        np.int32(width),
        np.int32(height),
    )
    return OK if done == 0 else BROKEN_JPEG
