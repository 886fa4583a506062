"""Images that cannot be read, listed: a reason once, with whom it is of."""

from __future__ import annotations

from barlowctl.data.images import unreadable
from barlowctl.data.images.unreadable import Problem, listed


def test_a_reason_is_said_once_with_the_first_names() -> None:
    problems = [Problem(f"{number}.tif", "damaged") for number in range(12)]
    problems[4:4] = [Problem("a.jpg", "it is empty"), Problem("b.jpg", "a pipe"), Problem("c.jpg", "a pipe")]
    assert listed(problems) == [
        "unreadable: 12 images (0.tif, 1.tif, 2.tif, ...): damaged",
        "unreadable: a.jpg: it is empty",
        "unreadable: 2 images (b.jpg, c.jpg): a pipe",
    ]


def test_splits_are_told_apart() -> None:
    problems = [
        Problem("1.jpg", "a pipe", "train"),
        Problem("1.jpg", "a pipe", "test"),
        Problem("2.jpg", "a pipe", "test"),
    ]
    assert listed(problems) == [
        "unreadable: train: 1.jpg: a pipe",
        "unreadable: test: 2 images (1.jpg, 2.jpg): a pipe",
    ]


def test_what_is_not_named_is_counted() -> None:
    count = unreadable.PROBLEMS_NAMED
    problems = [Problem(f"{number}.tif", f"of {number} bands") for number in range(count + 2)]
    assert listed(problems)[count - 1 :] == [
        f"unreadable: {count - 1}.tif: of {count - 1} bands",
        "... and 2 more",
    ]
    assert listed(problems[:1], 1_001, " in FILE") == ["unreadable: 0.tif: of 0 bands", "... and 1,000 more in FILE"]
