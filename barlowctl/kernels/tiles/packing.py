"""Maps and weights of bfloat16 as a processor's tiles read them (see `sums`): 32 images of a pixel at a time.

Maps are (images, pixels, channels) in memory. Images that are missing from the last 32 are zeros. All is an address;
channels are multiples of 32.
"""

from __future__ import annotations

from numba import carray

from barlowctl.kernel_cache import njit
from barlowctl.kernels.compiling import KERNEL
from barlowctl.kernels.thread_tiles import words
from barlowctl.kernels.tiles.memory import LINE, ROWS, SIDE, pair_rows, turn

FACTOR = SIDE * LINE
"""Bytes of a factor of `add_products`."""


@njit(**KERNEL)
def row_of(channels):
    """Bytes from an image's channels to the next one's: a line apart, or rows of a tile share places of the cache."""
    return channels * 2 + LINE


@njit(**KERNEL)
def image_at(x, zeros, images, image, pixel, pixels, channels):
    """Where an image's channels at a pixel lie."""
    return x + (image * pixels + pixel) * channels * 2 if image < images else zeros


@njit(**KERNEL)
def pack_images(x, zeros, images, pixels, channels, first, out):
    """out (pixels, 32, channels and a line) = the images from the `first` on."""
    size = channels // 2
    for pixel in range(pixels):
        for image in range(SIDE):
            source = carray(words(image_at(x, zeros, images, first + image, pixel, pixels, channels)), (size,))
            target = carray(words(out + (pixel * SIDE + image) * row_of(channels)), (size,))
            for word in range(size):
                target[word] = source[word]


@njit(**KERNEL)
def pack_seen(x, zeros, images, pixels, channels, first, pixel, out, block_size):
    """A factor on the right for every 32 channels, of the images from the `first` on at a pixel.

    Rows of the matrix are images, columns channels. out: where the first of them lies, the others `block_size` apart.
    """
    for block in range(channels // SIDE):
        for pair in range(ROWS):
            image = first + 2 * pair
            upper = image_at(x, zeros, images, image, pixel, pixels, channels)
            lower = image_at(x, zeros, images, image + 1, pixel, pixels, channels)
            for half in range(2):
                start, target = (block * 2 + half) * LINE // 2, out + block * block_size + pair * 2 * LINE
                pair_rows(upper + start, lower + start, target + half * LINE)


@njit(**KERNEL)
def pack_gradients(gradient, zeros, images, pixels, channels, first, pixel, out, block_size, room):
    """The same as factors on the left: rows are channels, columns images. room: for 16 lines."""
    for block in range(channels // SIDE):
        for half in range(2):
            start, target = (block * 2 + half) * LINE // 2, out + block * block_size + half * ROWS * LINE
            for pair in range(ROWS):
                image = first + 2 * pair
                upper = image_at(gradient, zeros, images, image, pixel, pixels, channels)
                lower = image_at(gradient, zeros, images, image + 1, pixel, pixels, channels)
                pair_rows(upper + start, lower + start, room + pair * LINE)
            turn(room, LINE, target, LINE)


@njit(**KERNEL)
def pack_weights(weights, taps, channels, out_channels, block, out):
    """Factors on the right for 32 channels of the result, (taps, channels // 32).

    weights: (out_channels, taps, channels).
    """
    steps = channels // SIDE
    row = taps * channels * 2
    for half in range(2):
        first = weights + (block * SIDE + half * ROWS) * row
        for step in range(taps * steps):
            turn(first + step * LINE, row, out + step * FACTOR + half * LINE, 2 * LINE)


@njit(**KERNEL)
def pack_turned_weights(weights, taps, channels, out_channels, block, out):
    """The same for the gradient of the map: 32 of its channels, (taps, out_channels // 32)."""
    row = taps * channels * 2
    for tap in range(taps):
        for step in range(out_channels // SIDE):
            for pair in range(ROWS):
                upper = weights + (step * SIDE + 2 * pair) * row + (tap * channels + block * SIDE) * 2
                target = out + (tap * (out_channels // SIDE) + step) * FACTOR + pair * 2 * LINE
                for half in range(2):
                    start = half * LINE // 2
                    pair_rows(upper + start, upper + row + start, target + half * LINE)
