"""What is said below a study's table of its differences: which are more than chance."""

from __future__ import annotations

from typing import Any

from barlowctl.study.table import margin, resolved


def row(name: str, values: list[float], base: list[float], published: float | None = None) -> dict[str, Any]:
    difference = sum(values) / len(values) - sum(base) / len(base)
    return {
        "variant": name, "baseline": "baseline", "same_as": None, "published_difference": published,
        "linear_top1_difference": difference, "linear_top1_margin": None if values is base else margin(values, base),
    }  # fmt: skip


BASE = [80.0, 80.5, 79.5]


def test_differences_larger_than_their_interval_are_named() -> None:
    """Three seeds of the same spread: the interval is +- 1.13 (Welch's t of 4 degrees of freedom)."""
    rows = [row("baseline", BASE, BASE), row("far", [82.0, 82.5, 81.5], BASE), row("near", [81.0, 81.5, 80.5], BASE)]
    assert 1.1 < rows[1]["linear_top1_margin"] < 1.2
    assert resolved(rows) == [
        "Differences are of linear top-1 to baseline, with half their 95 % interval (Welch), each by itself. "
        "Larger than that: far, of 2."
    ]
    lines = resolved([rows[0], rows[2]])
    assert lines[0].endswith("Larger than that: none, of 1.")
    assert lines[1] == "More seeds make the intervals narrower."


def test_of_one_seed_more_are_advised() -> None:
    rows = [row("baseline", BASE[:1], BASE[:1]), row("far", [90.0], BASE[:1])]
    assert resolved(rows) == [
        "Differences are of linear top-1 to baseline; of one seed each they may be chance: "
        "--seeds 3 adds their 95 % intervals."
    ]


def test_beside_the_papers_numbers_the_verdicts_say_it() -> None:
    rows = [row("baseline", BASE, BASE), row("far", [82.0, 82.5, 81.5], BASE, published=1.5)]
    assert resolved(rows) == []
    assert resolved([row("baseline", BASE, BASE)]) == []
