"""What is said where a run goes on in another way than it began."""

from __future__ import annotations

from typing import Any

import pytest

from barlowctl.assemble.changed_since import changed_since

BEFORE = {"device": "cpu, 1 thread, fp32", "loader": "fast (packed file, uncompressed pixels)"}


@pytest.mark.parametrize(
    ("now", "ranks", "words"),
    [
        ({}, 1, None),
        ({"device": "cpu, 1 thread, bf16 as the recipe asks, when the run began"}, 1, None),
        ({"device": "cpu, 16 threads, fp32"}, 1, "16 threads in place of 1"),
        ({"device": "cuda:0 (NVIDIA H200), bf16"}, 1, None),  # that has a note of its own
        ({"loader": "plain (asked for)"}, 1, "the plain loader in place of the fast one"),
        ({"device": "cpu, 2 threads, fp32"}, 2, "2 threads in place of 1, 2 processes in place of 1"),
    ],
)
def test_what_became_other_is_named(now: dict[str, str], ranks: int, words: str | None) -> None:
    text = changed_since({"facts": BEFORE, "ranks": 1}, BEFORE | now, ranks)
    assert text == (
        f"it goes on with {words}: from here on its numbers agree with those of a run that was not stopped, though not "
        "bit for bit"
        if words
        else None
    )


@pytest.mark.parametrize("about", [{}, {"facts": None, "ranks": None}, {"facts": {"device": 3}}])
def test_a_run_that_noted_nothing_is_not_spoken_of(about: dict[str, Any]) -> None:
    assert changed_since(about, BEFORE, 4) is None
