"""How often Python looks for garbage in circles of references: seldom in a command, and little in a training. A leaf.

Importing torch and timm makes half a million objects that stay. Python's own thresholds look through them 900 times
meanwhile, and through all of them again several times in a training's first minute, which stands still for a third of a
second each time, on each rank at another one (measured in docs/experiments.md).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLDS = (10_000, 10, 10)
"""Of a command's process. CPython has (700, 10, 10), or (2000, 10, 0) since 3.13."""

_is_set_aside = False


def collect_seldom() -> None:
    """For a process that is ours alone: look through young objects once in 10,000 that were made and are left."""
    gc.set_threshold(*THRESHOLDS)


@contextmanager
def set_aside() -> Iterator[None]:
    """Within the block, what was there before is not looked through; garbage that comes up in it is, as ever.

    Within another such block, and where somebody else has set objects aside (`gc.freeze`), nothing changes.
    """
    global _is_set_aside
    if _is_set_aside or gc.get_freeze_count():  # which goes through all of them
        yield
        return
    gc.collect()
    gc.freeze()
    _is_set_aside = True
    try:
        yield
    finally:
        _is_set_aside = False
        gc.unfreeze()
