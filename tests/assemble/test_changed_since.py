"""What is said where a run goes on in another way than it began."""

from __future__ import annotations

from typing import Any

import pytest

from barlowctl.assemble.changed_since import changed_since

BEFORE = {"device": "cpu, 1 thread, fp32", "loader": "fast (packed file, uncompressed pixels)"}


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ({}, None),
        ({"device": "cpu, 1 thread, bf16 as the recipe asks, when the run began"}, None),
        ({"device": "cpu, 16 threads, fp32"}, "16 threads in place of 1"),
        ({"device": "cuda:0 (NVIDIA H200), bf16"}, None),  # that has a note of its own
        ({"loader": "plain (asked for)"}, "the plain loader in place of the fast one"),
        (
            {"device": "cpu, 2 threads, fp32", "loader": "plain (asked for)"},
            "2 threads in place of 1 and the plain loader in place of the fast one",
        ),
    ],
)
def test_what_became_other_is_named(now: dict[str, str], words: str | None) -> None:
    text = changed_since({"facts": BEFORE}, BEFORE | now)
    assert text == (
        f"it goes on with {words}: from here on it is not bit for bit the run it would have been" if words else None
    )


@pytest.mark.parametrize("about", [{}, {"facts": None}, {"facts": {"device": 3}}])
def test_a_run_that_noted_nothing_is_not_spoken_of(about: dict[str, Any]) -> None:
    assert changed_since(about, BEFORE) is None
