"""Products of matrices of bfloat16, 32 rows and 32 columns at a time, by what the processor has for them.

That is tiles (Intel's AMX: `amx`) or vectors (AVX-512's bf16: `vectors`), whose functions are these:

- `configure(address)`: begin, each thread for itself; the address is that of `configuration`. `release()`: end.
- `clear_sums(out, row)`: begin with sums of 0. `load_sums(out, row)`: go on with the sums, float32, that lie at `out`,
  whose rows are `row` apart, 0 if all are the same. `store_sums(out, row)`: have the sums lie there.
- `add_products(count, left, left_row, left_half, left_step, right, right_row, right_half, right_step, out, row)`: add
  the products of `count` pairs of factors, 1 or more, to the sums, which are those of `out`. A factor on the left is
  32 rows of 32 numbers; one on the right is 16 rows of 32 pairs of numbers, the pair of a column being those of two
  rows of the matrix. `row`: from one row to the next. `half`: from the first 16 rows, or columns, to the others.
  `step`: from one factor to the next.

All addresses and sizes are in bytes.
"""

from __future__ import annotations

from barlowctl.kernels.vector_code import has_amx

HAS_TILES = has_amx()
"""Whether kernels are compiled for a processor with AMX."""

if HAS_TILES:
    from barlowctl.kernels.tiles.amx import add_products, clear_sums, configure, load_sums, release, store_sums
else:
    from barlowctl.kernels.tiles.vectors import add_products, clear_sums, configure, load_sums, release, store_sums

__all__ = ["HAS_TILES", "add_products", "clear_sums", "configure", "load_sums", "release", "store_sums"]
