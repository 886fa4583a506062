"""The stream of images: every image once a pass, groups of one orientation, the same from any iteration on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from barlowctl.data.views.draws import epoch_order
from barlowctl.detect.sampler import IterationSampler
from barlowctl.errors import UserError

MEMBERS = np.array([3, 4, 7, 8, 9, 12, 15, 20, 21, 30, 31])
WIDE = np.array([1, 1, 0, 1, 1, 1, 0, 1, 1, 0, 1], dtype=bool)


def stream(seed: int, batch_size: int) -> Iterator[list[int]]:
    """Batches as detectron2's AspectRatioGroupedDataset makes them of the passes, one image after another."""
    buckets: dict[bool, list[int]] = {True: [], False: []}
    epoch = 0
    while True:
        for row in epoch_order(len(MEMBERS), seed, epoch).tolist():
            bucket = buckets[bool(WIDE[row])]
            bucket.append(int(MEMBERS[row]))
            if len(bucket) == batch_size:
                yield list(bucket)
                bucket.clear()
        epoch += 1


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 6, 16])
def test_batches_leave_in_the_order_in_which_they_are_complete(batch_size: int) -> None:
    sampler = IterationSampler(MEMBERS, WIDE, batch_size=batch_size, seed=7)
    for iteration, expected in zip(range(40), stream(7, batch_size), strict=False):
        assert sampler.rows(iteration).tolist() == expected


def test_an_iteration_is_the_same_whatever_was_asked_for_before() -> None:
    in_order = IterationSampler(MEMBERS, WIDE, batch_size=4, seed=1)
    expected = [in_order.rows(iteration).tolist() for iteration in range(50)]
    jumping = IterationSampler(MEMBERS, WIDE, batch_size=4, seed=1)
    for iteration in (37, 38, 2, 2, 49, 0, 13):
        assert jumping.rows(iteration).tolist() == expected[iteration]
    other = IterationSampler(MEMBERS, WIDE, batch_size=4, seed=2)
    assert expected != [other.rows(iteration).tolist() for iteration in range(50)]


def test_every_image_is_there_as_often_as_the_others() -> None:
    sampler = IterationSampler(MEMBERS, WIDE, batch_size=4, seed=0)
    rows = np.concatenate([sampler.rows(iteration) for iteration in range(275)])
    counts = np.unique(rows, return_counts=True)[1]
    assert len(counts) == len(MEMBERS)
    assert set(counts) <= {99, 100, 101}
    for iteration in range(20):
        orientations = WIDE[np.searchsorted(MEMBERS, sampler.rows(iteration))]
        assert len(set(orientations.tolist())) == 1


def test_no_images_are_refused() -> None:
    with pytest.raises(UserError, match="no image with an object"):
        IterationSampler(MEMBERS[:0], WIDE[:0], batch_size=4, seed=0)
