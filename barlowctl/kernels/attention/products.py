"""Products of attention by a processor's tiles or vectors (see `tiles.sums`): of rows, and sums over rows."""

from __future__ import annotations

from barlowctl.kernel_cache import njit
from barlowctl.kernels.compiling import KERNEL
from barlowctl.kernels.tiles.memory import LINE, ROWS, SIDE
from barlowctl.kernels.tiles.packing import FACTOR
from barlowctl.kernels.tiles.sums import HAS_TILES, add_products, clear_sums, load_sums, store_sums
from barlowctl.kernels.tiles.vectors import AT_ONCE, PART, add_paired, multiply


@njit(**KERNEL)
def multiply_blocks_by_tiles(count, summed, left, row, right, blocks, size, zeros, out, out_row):
    """float32 (32, blocks of 32) = rows of so many numbers times factors, those of a block `size` bytes apart.

    What stands behind `count` rows is of no use. zeros: unused.
    """
    steps = -(-summed // SIDE)
    for block in range(blocks):
        target = out + block * 2 * LINE
        clear_sums(target, out_row)
        add_products(steps, left, row, ROWS * row, LINE, right + block * size, 2 * LINE, LINE, FACTOR, target, out_row)
        store_sums(target, out_row)


@njit(**KERNEL)
def multiply_blocks_by_vectors(count, summed, left, row, right, blocks, size, zeros, out, out_row):
    """The same where there are no tiles, of the count as a multiple of 8. zeros: a line and another."""
    for block in range(blocks):
        target = out + block * 2 * LINE
        multiply(-(-summed // PART), left, row, right + block * size, zeros, target, out_row, -(-count // AT_ONCE))


multiply_blocks = multiply_blocks_by_tiles if HAS_TILES else multiply_blocks_by_vectors


@njit(**KERNEL)
def add_factors_by_tiles(many, left, right, zeros, begins, target, row):
    """target, 32 x 32 of float32 = the products of so many factors, added to what is there, or the first ones.

    zeros: unused.
    """
    if begins:
        clear_sums(target, row)
    else:
        load_sums(target, row)
    add_products(many, left, LINE, ROWS * LINE, FACTOR, right, 2 * LINE, LINE, FACTOR, target, row)
    store_sums(target, row)


@njit(**KERNEL)
def add_factors_by_vectors(many, left, right, zeros, begins, target, row):
    """The same where there are no tiles."""
    given, given_row = (zeros, 0) if begins else (target, row)
    add_paired(many, left, right, FACTOR, given, given_row, target, row, zeros, 0, zeros, 0)


add_factors = add_factors_by_tiles if HAS_TILES else add_factors_by_vectors
