"""Where the numbers of options end: more than any machine or data set has, so that a slip of the hand is refused."""

from __future__ import annotations

AT_ONCE = 1000
"""Threads, processes or devices of a machine."""
NODES = 100_000
"""Machines of a job."""
IMAGES = 10_000_000
"""Of a batch, a draw or a map. What memory or disk do not hold is refused by them."""
STEPS = 1_000_000
"""Of a measurement, or of a detector's training."""
SIDE = 65_536
"""Pixels of an image's shorter side."""
SECONDS = 1_000_000
"""Eleven days."""
SEED = 2**32 - 1
"""What scikit-learn and UMAP take."""
SEEDS_OF_RUNS = 2**63 - 1
"""A run's own seed may be larger."""
COST = 1e12
"""Of a support vector machine."""
UNSAID = frozenset((AT_ONCE, NODES, IMAGES, STEPS, SIDE, SECONDS, SEED, SEEDS_OF_RUNS, COST))
"""Ends that a help page does not have, for nobody comes to them on purpose; an error does."""
