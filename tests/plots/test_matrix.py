"""A matrix as a picture: what is written on it is on it."""

from __future__ import annotations

import numpy as np
import pytest

from barlowctl.plots.matrix import confusion, heat_map


@pytest.mark.parametrize("count", [2, 8, 30])
def test_a_title_is_whole_beside_a_margin(count: int) -> None:
    title = "linear: percent of each true class (row) that was given each class (column)"
    written = np.asarray(confusion(np.eye(count), [f"n014{number}" for number in range(count)], title))[:30]
    alone = np.asarray(heat_map(np.zeros((2, 2)), low=0, high=1, title=title + " and more words behind it"))[:30]
    ink = np.flatnonzero((written.min(axis=2) < 128).any(axis=0))
    assert ink[0] >= 12
    assert written.shape[1] - ink[-1] > 8
    longer = np.flatnonzero((alone.min(axis=2) < 128).any(axis=0))
    same = slice(ink[0], ink[-1] + 1)
    assert longer[-1] > ink[-1]
    np.testing.assert_array_equal(written[:, same], alone[:, same])  # to its last letter
