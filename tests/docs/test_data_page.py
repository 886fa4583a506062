"""docs/data.md names every ending that is read and every flag that makes a choice."""

from __future__ import annotations

from pathlib import Path

from barlowctl.data.images import formats

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def test_every_ending_that_is_read_is_on_the_page():
    words = set(PAGE.replace("|", " ").split())
    read = [kind for kind in vars(formats).values() if isinstance(kind, formats.Format) and kind.reader != "none"]
    endings = [ending for ending, kind in formats._BY_ENDING.items() if kind in read]
    assert len(endings) > 30
    assert [ending for ending in endings if ending not in words] == []


def test_every_choice_is_on_the_page():
    for flag in ("--layout", "--member", "--image-column", "--label-column"):
        assert flag in PAGE
