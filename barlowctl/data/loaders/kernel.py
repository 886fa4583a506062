"""The kernel that a loader's threads run: samples in, views out, the interpreter lock released."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from barlowctl.data.beton import decode, decoders
from barlowctl.data.beton.decode import BAD_LENGTH, BAD_MODE, JPG, OK, RAW, decode_jpeg
from barlowctl.data.beton.layout import MAX_PIXELS
from barlowctl.data.views.corruption import corrupt
from barlowctl.data.views.draws import BICUBIC, CELL, CENTER, GRID, RESIZE, SIZE, WHOLE, draw
from barlowctl.data.views.photometric import blur_scratch, distort
from barlowctl.data.views.resize import (
    axis_taps,
    center_axis,
    crop_axis,
    resample,
    scratch_length,
    store,
    store_scratch,
    transpose,
    window_axis,
)
from barlowctl.data.views.vector import SLACK, copy
from barlowctl.errors import UserError
from barlowctl.kernel_cache import njit

if TYPE_CHECKING:
    from barlowctl.data.beton.reader import Beton


class FileIndex:
    """A Beton's arrays in the types that the kernel was compiled for, checked once.

    Args:
        decoder: of its JPEGs; None: the one that is chosen here.

    Attributes:
        decodes_first: whether its JPEGs have to be decoded before kernels are called.

    Raises:
        UserError: an image too large, or JPEGs without a decoder.
    """

    def __init__(self, source: Beton, members: np.ndarray, decoder: decoders.Decoder | None = None) -> None:
        self.data = np.asarray(source.bytes).view(np.ndarray)
        self.data.flags.writeable = False
        self.pointers, self.sizes = _int64(source.pointers), _int64(source.sizes)
        self.heights, self.widths = _int64(source.heights), _int64(source.widths)
        self.modes, self.labels = _int64(source.modes), _int64(source.labels)
        self.decoder = decoder or decoders.chosen()
        pixels = self.heights[members] * self.widths[members]
        worst = members[int(np.argmax(pixels))]
        if pixels.max() > MAX_PIXELS or pixels.min() < 1:
            worst = members[int(np.argmin(pixels))] if pixels.min() < 1 else worst
            raise UserError(
                f"sample {worst} of {source.path} has {self.widths[worst]} x {self.heights[worst]} pixels",
                allowed=f"1 to {MAX_PIXELS:,} pixels",
            )
        if self.decoder is None and (self.modes[members] == JPG).any():
            raise UserError(
                f"{source.path} holds JPEG images and there is no decoder for them: {decoders.why_none()}",
                next="--loader plain",
            )
        between = self.decoder is not None and self.decoder.address == decode.DECODED
        self.decodes_first = between and bool((self.modes[members] == JPG).any())

    def decode(self, sample: int, scratch: Scratch) -> int:
        """Decode a sample into a thread's scratch, for a kernel that cannot; a raw one stays. Returns its status."""
        if self.decoder is None or self.modes[sample] != JPG:
            return OK
        place = int(self.pointers[sample]), int(self.sizes[sample])
        shape = int(self.heights[sample]), int(self.widths[sample])
        return self.decoder.read(self.data, *place, *shape, scratch.arrays[0])


def _int64(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.int64)


class Scratch:
    """A thread's working memory, grown on demand to the largest image it has met, never shared.

    Attributes:
        arrays: the kernel's last arguments: the decoded image, the same read-only, then `resample`'s
            scratch, the planes, the blur's scratch, and `store`'s.
    """

    def __init__(self, specs: np.ndarray, channels: int) -> None:
        side = int(specs[:, SIZE].max())
        self.channels = channels
        self.pixels = self.width = 0
        self._planes = np.empty(channels * side * side, np.float32)
        self._spare = np.empty(blur_scratch(side), np.float32)
        self._packed = np.empty(store_scratch(side), np.uint32)
        self.arrays: tuple[Any, ...] = ()

    def grow(self, heights: np.ndarray, widths: np.ndarray, indices: np.ndarray) -> None:
        """Make room for these samples; int64 arrays over the source, and positions in it."""
        pixels = int((heights[indices] * widths[indices]).max(initial=1))
        width = int(widths[indices].max(initial=1))
        if pixels <= self.pixels and width <= self.width:
            return
        self.pixels, self.width = max(pixels, self.pixels), max(width, self.width)
        image = np.empty(max(4, self.channels) * self.pixels + SLACK, np.uint8)  # bands; or RGB, then luminance
        readonly = image.view()
        readonly.flags.writeable = False
        lines = np.empty(scratch_length.py_func(self.width, self.channels), np.float32)
        self.arrays = (image, readonly, lines, self._planes, self._spare, self._packed)


@njit(nogil=True)
def luminance(source, offset, target, begin, count):
    """count RGB pixels at source[offset:] -> grey at target[begin:], as Pillow's "L" rounds it."""
    for i in range(count):
        at = offset + 3 * i
        value = 19595 * np.int32(source[at]) + 38470 * np.int32(source[at + 1]) + 7471 * np.int32(source[at + 2])
        target[begin + i] = np.uint8((value + 0x8000) >> 16)


@njit(nogil=True)
def read_sample(data, pointer, length, mode, height, width, channels, decoder, handle, image):
    """Bring one sample within reach: (status, whether it lies in `image` rather than in `data`).

    channels: of a raw image.
    """
    if pointer < 0 or length < 0 or pointer + length > data.shape[0]:
        return BAD_LENGTH, False
    if mode == JPG:
        return decode_jpeg(decoder, handle, data, pointer, length, height, width, image), True
    if mode != RAW:
        return BAD_MODE, False
    if length != height * width * channels:
        return BAD_LENGTH, False
    if pointer + length + SLACK <= data.shape[0]:
        return OK, False
    copy(data, pointer, image, 0, length)  # too near to the file's end for whole vectors
    return OK, True


@njit(nogil=True)
def orientation(parameters):
    """Flips and turns of a `Draw` as (mirrored, upside down, then transposed): the first two cost nothing."""
    turns = parameters.turns
    mirrored = parameters.flip != (turns == 1 or turns == 2)
    return mirrored, parameters.vertical_flip != (turns >= 2), turns % 2 == 1


@njit(nogil=True)
def make_view(source, offset, height, width, planes, spec, seed, epoch, key, view, lines, spare):
    """One view of one image: draw, crop and resize, distort.

    Args:
        source: uint8 bytes, the interleaved image at `offset`; spec: `draws.encode`; key: the sample whose
            random numbers are used; planes: float32 (C, S, S), written, [c, x, y]; lines, spare: scratch.
    """
    channels, size = planes.shape[0], planes.shape[1]
    if spec[CENTER] != 0.0:
        mirrored, upside_down, transposed = False, False, False
        if spec[RESIZE] == WHOLE:
            vertical, horizontal = crop_axis(0, height, size), crop_axis(0, width, size)
        else:
            resize, shorter = np.int64(spec[RESIZE]), min(height, width)
            vertical = center_axis(height, shorter, resize, size)
            horizontal = center_axis(width, shorter, resize, size)
    else:
        parameters = draw(spec, seed, epoch, key, view, height, width)
        if spec[GRID] != 0.0:
            whole = np.int64(spec[GRID] * spec[CELL])
            vertical = window_axis(parameters.top, parameters.height, whole, parameters.window_top)
            horizontal = window_axis(parameters.left, parameters.width, whole, parameters.window_left)
        else:
            vertical = crop_axis(parameters.top, parameters.height, size)
            horizontal = crop_axis(parameters.left, parameters.width, size)
        mirrored, upside_down, transposed = orientation(parameters)
    bicubic = spec[BICUBIC] != 0.0
    stride = width * channels
    rows, columns = axis_taps(vertical, size, bicubic, upside_down), axis_taps(horizontal, size, bicubic, mirrored)
    resample(source, offset, stride, channels, rows, columns, lines, planes)
    if transposed:
        transpose(planes)
    if spec[CENTER] == 0.0:
        distort(planes, spare, parameters)
        corrupt(planes, parameters)


@njit(cache=True, nogil=True)
def fill(
    data,
    pointers,
    sizes,
    modes,
    heights,
    widths,
    keys,
    indices,
    status,
    specs,
    out,
    offsets,
    channels,
    seed,
    epoch,
    low,
    high,
    decoder,
    handle,
    image,
    readonly,
    lines,
    planes,
    spare,
    packed,
):
    """Rows [low, high) of a batch, all views.

    Args:
        data: uint8, the whole file; pointers .. widths: int64 (samples,), its index.
        keys, indices: int64 (rows,): whose random numbers, whose pixels. status: int64 (rows,), written.
        specs: float64 (views, SPEC_LENGTH). out: uint8, view v is (rows, S, S, C) from offsets[v] on.
        decoder, handle: a `Decoder`'s address and `thread_handle`. The rest: a `Scratch`'s arrays.
    """
    stored = 3 if channels == 1 else channels
    for row in range(low, high):
        sample = indices[row]
        height, width = heights[sample], widths[sample]
        status[row], decoded = read_sample(
            data, pointers[sample], sizes[sample], modes[sample], height, width, stored, decoder, handle, image
        )
        if status[row] != OK:
            continue
        source, offset = (readonly, 0) if decoded else (data, pointers[sample])
        if channels == 1:
            grey = 3 * ((image.shape[0] - SLACK) // 4)
            luminance(source, offset, image, grey, height * width)
            source, offset = readonly, grey
        for view in range(specs.shape[0]):
            size = np.int64(specs[view, SIZE])
            length = size * size * channels
            begin = offsets[view] + row * length
            here = planes[:length].reshape(channels, size, size)
            make_view(source, offset, height, width, here, specs[view], seed, epoch, keys[row], view, lines, spare)
            store(here, packed, out[begin : begin + length])
