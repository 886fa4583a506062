"""Differences of features that are accepted, relative to the largest feature (at least 1)."""

from __future__ import annotations

SUMMED_IN_ANOTHER_ORDER = 1e-5
"""torch's own operations in float32."""
OTHER_KERNELS = 1e-4
"""Another runtime's operations in float32."""
HALF_PRECISION = 2e-2
"""Weights and operations in float16, which has 11 bits."""
