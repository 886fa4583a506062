"""docs/architecture.md: its tree is what the modules say of themselves, and the files that it names are there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def generator(script_of: Callable[[str], ModuleType]) -> ModuleType:
    return script_of("generate_tree.py")


def test_the_tree_is_fresh(generator: ModuleType) -> None:
    text = generator.PAGE.read_text(encoding="utf-8")
    assert generator.page(text) == text, "stale: run `make docs`"
    assert "      plan               Which sample is where" in text
    assert generator.page("a\n" + generator.BEGIN + "old\n" + generator.END + "b\n").startswith("a\n")


def test_files_that_are_named_are_there(checkout: Path, generator: ModuleType) -> None:
    before, _, rest = generator.PAGE.read_text(encoding="utf-8").partition(generator.BEGIN)
    words = before + rest.partition(generator.END)[2]
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", words)
    assert len(named) > 20
    assert [
        name for name in named if not any((root / name).is_file() for root in (checkout / "barlowctl", checkout))
    ] == []
