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


def stream(seed: int, group: int) -> Iterator[list[int]]:
    """Groups as detectron2's AspectRatioGroupedDataset makes them of the passes, one image after another."""
    buckets: dict[bool, list[int]] = {True: [], False: []}
    epoch = 0
    while True:
        for row in epoch_order(len(MEMBERS), seed, epoch).tolist():
            bucket = buckets[bool(WIDE[row])]
            bucket.append(int(MEMBERS[row]))
            if len(bucket) == group:
                yield list(bucket)
                bucket.clear()
        epoch += 1


@pytest.mark.parametrize(("batch_size", "group"), [(4, None), (4, 2), (6, 3), (1, 1), (16, None), (16, 2)])
def test_groups_leave_in_the_order_in_which_they_are_complete(batch_size: int, group: int | None) -> None:
    sampler = IterationSampler(MEMBERS, WIDE, batch_size=batch_size, seed=7, group=group)
    groups = stream(7, group or batch_size)
    for iteration in range(40):
        expected = [image for _ in range(batch_size // (group or batch_size)) for image in next(groups)]
        assert sampler.rows(iteration).tolist() == expected


def test_an_iteration_is_the_same_whatever_was_asked_for_before() -> None:
    in_order = IterationSampler(MEMBERS, WIDE, batch_size=4, seed=1, group=2)
    expected = [in_order.rows(iteration).tolist() for iteration in range(50)]
    jumping = IterationSampler(MEMBERS, WIDE, batch_size=4, seed=1, group=2)
    for iteration in (37, 38, 2, 2, 49, 0, 13):
        assert jumping.rows(iteration).tolist() == expected[iteration]
    assert expected != [
        IterationSampler(MEMBERS, WIDE, batch_size=4, seed=2, group=2).rows(i).tolist() for i in range(50)
    ]


def test_every_image_is_there_as_often_as_the_others() -> None:
    sampler = IterationSampler(MEMBERS, WIDE, batch_size=4, seed=0)
    rows = np.concatenate([sampler.rows(iteration) for iteration in range(275)])
    counts = np.unique(rows, return_counts=True)[1]
    assert len(counts) == len(MEMBERS)
    assert set(counts) <= {99, 100, 101}
    for iteration in range(20):
        orientations = WIDE[np.searchsorted(MEMBERS, sampler.rows(iteration))]
        assert len(set(orientations.tolist())) == 1


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(UserError, match="groups of 3") as caught:
        IterationSampler(MEMBERS, WIDE, batch_size=4, seed=0, group=3)
    assert caught.value.allowed == "a divisor of 4"
    with pytest.raises(UserError, match="no image with an object"):
        IterationSampler(MEMBERS[:0], WIDE[:0], batch_size=4, seed=0)
