"""TIFFs that say what their planes are: channels at several depths and times, by OME-XML, ImageJ or tifffile itself."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Plane:
    """A plane of a stack whose file has one directory for all of them, as ImageJ writes beyond 4 GB."""

    page: Any  # the first one's
    values: np.ndarray  # (H, W)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.page, name)

    def asarray(self) -> np.ndarray:
        return self.values


@dataclass(frozen=True)
class Stack:
    """What a file says of its first stack.

    channels: a page or plane for each channel, at the first depth and time; empty: it names no channels of one band.
    more: whether there are other depths or times.
    """

    channels: list[Any]
    more: bool


def stack_of(file: Any, data: bytes) -> Stack:
    """The first stack of an open `tifffile.TiffFile`, whose bytes are `data`.

    Pages may lie in any order of channel, depth and time: it is the file's words that say which is which.
    """
    nothing = Stack([], False)
    if not (file.is_ome or file.is_imagej or file.is_shaped) or file.pages[0].samplesperpixel != 1:
        return nothing
    import tifffile

    series: Any = tifffile.TiffFile(io.BytesIO(data)).series[0]  # series leave pages of `file` without tags
    axes, outer = series.axes[:-2], series.shape[:-2]
    if not outer or series.axes[-2:] != "YX" or series.keyframe.index:
        return nothing
    channels = outer[axes.index("C")] if axes.count("C") == 1 else 1
    more = math.prod(outer) > channels
    if channels < 2:
        return Stack([], more)
    positions = [
        int(np.ravel_multi_index([channel if axis == "C" else 0 for axis in axes], outer))
        for channel in range(channels)
    ]
    if len(series.pages) == math.prod(outer):
        pages = [series.pages[position] for position in positions]
        return Stack([] if any(page is None for page in pages) else pages, more)  # other channels in other files
    if series.dataoffset is None or series.dataoffset + series.nbytes > len(data):
        return Stack([], more)
    height, width = series.shape[-2:]
    values = np.frombuffer(data, series.dtype.newbyteorder(file.byteorder), series.size, series.dataoffset)
    planes = values.reshape(-1, height, width)
    return Stack([Plane(file.pages[0], planes[position]) for position in positions], more)
