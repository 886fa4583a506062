"""Student's t: how wide the 95 % interval of a mean is, for any number of degrees of freedom. A leaf."""

from __future__ import annotations

import math

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_WIDEST = 12.7063
"""More than the quantile of one degree of freedom, 12.7062: no other is larger."""


def quantile(freedom: float) -> float:
    """t with P(|T| < t) = 0.95 for `freedom` degrees of freedom, at least 1, not only whole ones; six digits are right.

    With t = sqrt(freedom) tan(a) the density of T becomes cos(a)^(freedom - 1), whose integral from -pi/2 to pi/2 is
    sqrt(pi) Gamma(freedom / 2) / Gamma((freedom + 1) / 2); t is bisected.

    Raises:
        ValueError: less than one degree of freedom.
    """
    if not freedom >= 1.0:
        raise ValueError(f"Student's t of {freedom:g} degrees of freedom: at least 1")
    whole = math.exp(0.5 * math.log(math.pi) + math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2))
    low, high = 0.0, _WIDEST
    while high - low > 1e-10:
        t = 0.5 * (low + high)
        angle = math.atan(t / math.sqrt(freedom))
        inside = angle * float(_WEIGHTS @ np.cos(0.5 * angle * (_NODES + 1.0)) ** (freedom - 1.0))
        low, high = (t, high) if inside < 0.95 * whole else (low, t)
    return low
