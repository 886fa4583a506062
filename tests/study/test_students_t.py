"""Quantiles of Student's t against printed tables, and between whole degrees of freedom against scipy's."""

from __future__ import annotations

import pytest

from barlowctl.study.students_t import quantile

PRINTED = {1: 12.7062, 2: 4.30265, 3: 3.18245, 10: 2.22814, 14: 2.14479, 28: 2.04841, 120: 1.97993}
BY_SCIPY = {1.4: 6.657003, 2.4: 3.683504, 3.7231: 2.859810, 1e6: 1.959966}


@pytest.mark.parametrize(("freedom", "expected"), (PRINTED | BY_SCIPY).items())
def test_the_quantile_is_students(freedom: float, expected: float) -> None:
    assert quantile(freedom) == pytest.approx(expected, rel=3e-6)


def test_less_than_one_degree_of_freedom_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.5 degrees of freedom"):
        quantile(0.5)
