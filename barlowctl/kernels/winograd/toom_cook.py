"""The matrices of Winograd's convolutions F(m, 3), which come from points at which polynomials are interpolated.

m neighbouring numbers of a convolution with three weights take m + 2 products instead of 3 m: out (weights) times
B (inputs) element by element, and A of that (Lavin and Gray 2016). Opposite points have sums in common, and points
near 1 are what keeps rounding small (Barabasz et al. 2020); those here had the least errors of those that were tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


def _pairs(*points: Fraction, zero: bool) -> tuple[Fraction, ...]:
    """Points and their opposites, after 0 where it is one."""
    return (*[Fraction(0)] * zero, *(sign * point for point in points for sign in (1, -1)))


POINTS: dict[int, tuple[Fraction, ...]] = {
    2: _pairs(Fraction(1), zero=True),
    3: _pairs(Fraction(3, 8), Fraction(5, 4), zero=False),
    4: _pairs(Fraction(5, 8), Fraction(3, 2), zero=True),
    5: _pairs(Fraction(1, 3), Fraction(4, 5), Fraction(5, 3), zero=False),
    6: _pairs(Fraction(1, 2), Fraction(1), Fraction(2), zero=True),
    7: _pairs(Fraction(1, 4), Fraction(3, 4), Fraction(5, 4), Fraction(2), zero=False),
    8: _pairs(Fraction(2, 5), Fraction(4, 5), Fraction(5, 4), Fraction(5, 2), zero=True),
}
"""By m, the numbers of a tile along a line. The last point, infinity, is in none of them."""

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Transforms:
    """Of F(m, 3): `inputs` (m + 2, m + 2), `weights` (m + 2, 3) and `outputs` (m, m + 2).

    outputs ((weights w) (inputs d)) is what a window of the three numbers w gives that goes over the m + 2 numbers d.
    """

    inputs: Matrix
    weights: Matrix
    outputs: Matrix

    @classmethod
    def of(cls, points: Sequence[Fraction]) -> Transforms:
        """For those points and infinity."""
        m = len(points) - 1
        inputs, weights = [], []
        for point in points:
            others = [other for other in points if other != point]
            inputs.append([*_with_roots(others), Fraction(0)])
            scale = Fraction(1)
            for other in others:
                scale *= point - other
            weights.append([point**power / scale for power in range(3)])
        inputs.append(_with_roots(points))
        weights.append([Fraction(0), Fraction(0), Fraction(1)])
        outputs = [[*(point**row for point in points), Fraction(int(row == m - 1))] for row in range(m)]
        return cls(_floats(inputs), _floats(weights), _floats(outputs))


def transposed(matrix: Matrix) -> Matrix:
    """Columns as rows."""
    return tuple(zip(*matrix, strict=True))


def _with_roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """The coefficients of the polynomial with these roots, from that of power 0 on."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *coefficients], [*(-root * c for c in coefficients), Fraction(0)]
        coefficients = [one + other for one, other in zip(shifted, scaled, strict=True)]
    return coefficients


def _floats(matrix: Sequence[Sequence[Fraction]]) -> Matrix:
    return tuple(tuple(float(value) for value in row) for row in matrix)


TRANSFORMS = {m: Transforms.of(points) for m, points in POINTS.items()}
