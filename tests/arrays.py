"""Arrays in a file, read and the file closed: one that is left open is met by whoever looks for garbage later."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of a .npz file, by name."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
