"""What is said where a run goes on in another way than it began."""

from __future__ import annotations

from typing import Any

import pytest

from barlowctl.assemble.changed_since import changed_since, decoded_otherwise

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


BY_JPEG = "fast (packed file, ffcv's decoder)"


@pytest.mark.parametrize(
    ("started", "loader", "is_said"),
    [
        ("2026-11-23T10:00:00+0000", BY_JPEG, True),
        ("2026-11-25T15:34:00+0100", BY_JPEG, True),
        ("2026-11-25T14:36:00+0000", BY_JPEG, False),
        ("2026-11-23T10:00:00+0000", BEFORE["loader"], False),
        ("2026-11-23T10:00:00+0000", "plain (a folder of images)", False),
        ("2026-11-23T10:00:00", BY_JPEG, False),
        ("yesterday", BY_JPEG, False),
        (None, BY_JPEG, False),
    ],
)
def test_a_run_that_began_on_other_pixels_says_so(started: str | None, loader: str, is_said: bool) -> None:
    """Packed JPEGs were decoded otherwise in the first two days."""
    text = decoded_otherwise({"started": started, "facts": {"loader": loader}})
    assert (text is not None and "about a level darker" in text) == is_said
    assert decoded_otherwise({"started": started}) is None
