"""Grey and colour are stored as three values, bands as they are; their numbers in words."""

from __future__ import annotations

import pytest

from barlowctl import channels


@pytest.mark.parametrize(("count", "stored", "bands"), [(1, 3, False), (2, 2, True), (3, 3, False), (13, 13, True)])
def test_what_is_stored(count: int, stored: int, bands: bool) -> None:
    assert (channels.stored_as(count), channels.are_bands(count)) == (stored, bands)


@pytest.mark.parametrize(
    ("bands", "words"),
    [((4, 3, 2), "4, 3, 2"), (range(1, 14), "1-13"), ((2, 3, 4, 8), "2-4, 8"), ((8, 1, 2), "8, 1, 2"), ((), "")],
)
def test_numbers_that_follow_one_another_are_a_range(bands: tuple[int, ...], words: str) -> None:
    assert channels.in_words(bands) == words
