"""Numbers in a study's table."""

from __future__ import annotations

import pytest

from barlowctl.study.table import number


@pytest.mark.parametrize(
    ("value", "column", "signed", "text"),
    [
        (-1e-15, "linear_top1_difference", True, "+0.00"),
        (-0.004, "linear_top1", False, "0.00"),
        (-0.5, "linear_top1", True, "-0.50"),
        (None, "linear_top1", True, "-"),
    ],
)
def test_what_rounds_to_nothing_has_no_minus(value: float | None, column: str, signed: bool, text: str) -> None:
    assert number(value, column, signed=signed) == text
