"""docs/loader.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "loader.md").read_text(encoding="utf-8")


def test_every_test_on_the_page_is_there():
    named = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", PAGE)
    assert len(named) > 10
    files = {path.name: path.read_text(encoding="utf-8") for path in (CHECKOUT / "tests" / "data").rglob("test_*.py")}
    assert [file for file, _ in named if file not in files] == []
    assert [test for file, test in named if test and f"def {test}(" not in files[file]] == []
