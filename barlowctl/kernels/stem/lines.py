"""Lines of a maximum pooling with windows of 3 x 3 and a stride of 2, and of its gradient, by `vector_code`.

All is an address, or a size in numbers; a map's shape is height, width and channels, which fill vectors.
"""

from __future__ import annotations

from barlowctl.kernel_cache import njit
from barlowctl.kernels.compiling import KERNEL
from barlowctl.kernels.float_vectors import LANES
from barlowctl.kernels.number_formats import itemsize
from barlowctl.kernels.stem.vector_code import pool_windows, sum_windows, write_pixels

SIDE, STRIDE, PADDING = 3, 2, 1
"""Of the pooling, of height and width each."""


@njit(**KERNEL)
def pooled_side(side):
    """Height of the result for a map's, or width."""
    return (side + 2 * PADDING - SIDE) // STRIDE + 1


@njit(**KERNEL)
def tap(line, x, width, size, elsewhere):
    """The address of a pixel of a line, or elsewhere."""
    return line + x * size if 0 <= x < width else elsewhere


@njit(**KERNEL)
def taps_of(lines, column, width, size, elsewhere):
    """Addresses of the nine pixels of a window, of lines or, beyond the map's sides, elsewhere."""
    one, two, three = lines
    x = STRIDE * column - PADDING
    return (
        tap(one, x, width, size, elsewhere),
        tap(one, x + 1, width, size, elsewhere),
        tap(one, x + 2, width, size, elsewhere),
        tap(two, x, width, size, elsewhere),
        tap(two, x + 1, width, size, elsewhere),
        tap(two, x + 2, width, size, elsewhere),
        tap(three, x, width, size, elsewhere),
        tap(three, x + 1, width, size, elsewhere),
        tap(three, x + 2, width, size, elsewhere),
    )


@njit(**KERNEL)
def ends_of(width):
    """Columns of windows: the first, those after it that lie within the map, and the last if it does not; as bounds."""
    across = pooled_side(width)
    return 0, 1, max(1, across - width % 2), across


@njit(**KERNEL)
def pool_line(lines, like, shape, elsewhere, pooled, places):
    """A line of the result, from addresses of three of the map; elsewhere: of zeros, for what lies beyond its sides."""
    _, width, channels = shape
    size, ends = itemsize(like) * channels, ends_of(width)
    for share in range(3):
        begin, count = ends[share], ends[share + 1] - ends[share]
        if count > 0:
            taps = taps_of(lines, begin, width, size, elsewhere)
            out, at = pooled + begin * size, places + begin * channels
            pool_windows(like, *taps, count, channels // LANES, out, at)


@njit(**KERNEL)
def windows_of(gradient, places, like, line, high, across, channels):
    """The windows that have pixels of a line: how many rows of them; and of both, if there are two, where they begin.

    Returns: rows; of each the addresses of its gradient and of its places, and the place of the line's first column.
    """
    up, size = line // STRIDE, across * channels
    first = gradient + itemsize(like) * up * size, places + up * size
    if line % STRIDE == 0:
        return 1, (*first, SIDE), (*first, SIDE)
    second = gradient + itemsize(like) * (up + 1) * size, places + (up + 1) * size
    return (2 if up + 1 < high else 1), (*first, 2 * SIDE), (*second, 0)


@njit(**KERNEL)
def shares_of(width):
    """Pixels of a line in even columns; in odd ones, of which each is in two columns of windows; and in one."""
    return (width + 1) // 2, (width - 1) // 2, 1 - width % 2


@njit(**KERNEL)
def sum_line(gradient, places, x, like, line, shape, centre, total, product):
    """Adds the share of a line of windows to the sums of its image, whose map is x: see `sum_windows`."""
    height, width, channels = shape
    size, ends, first = itemsize(like) * channels, ends_of(width), STRIDE * line - PADDING
    lines = (
        x + max(first, 0) * width * size,
        x + (first + 1) * width * size,
        x + min(first + 2, height - 1) * width * size,
    )
    before = line * pooled_side(width)
    for share in range(3):
        begin, count = ends[share], ends[share + 1] - ends[share]
        if count > 0:
            taps = taps_of(lines, begin, width, size, x)
            g, at = gradient + (before + begin) * size, places + (before + begin) * channels
            sum_windows(like, *taps, count, channels // LANES, g, at, centre, total, product)


@njit(**KERNEL)
def write_line(gradient, places, x, like, line, shape, scale, slope, offset, out):
    """The gradient of a line: see `write_pixels`."""
    height, width, channels = shape
    across, vectors, size = pooled_side(width), channels // LANES, itemsize(like) * channels
    rows, (g, at, row), (h, to, other) = windows_of(gradient, places, like, line, pooled_side(height), across, channels)
    even, odd, last = shares_of(width)
    none = 0, 0, 0
    factors = vectors, scale, slope, offset
    write_pixels(like, rows, g, at, row + 1, h, to, other + 1, *none, *none, x, even, *factors, out)
    if odd > 0:
        four = g, at, row + 2, g + size, at + channels, row, h, to, other + 2, h + size, to + channels, other
        write_pixels(like, 2 * rows, *four, x + size, odd, *factors, out + size)
    if last > 0:
        g, at, h, to = g + odd * size, at + odd * channels, h + odd * size, to + odd * channels
        two, begin = (g, at, row + 2, h, to, other + 2), (2 * odd + 1) * size
        write_pixels(like, rows, *two, *none, *none, x + begin, last, *factors, out + begin)
