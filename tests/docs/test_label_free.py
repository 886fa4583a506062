"""docs/study/label_free.py: its rank correlations, whose bootstrap draws variants; the page is of its files."""

from __future__ import annotations

import importlib.util
import itertools
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

STUDY = Path(__file__).resolve().parent.parent.parent / "docs" / "study"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("label_free_study", STUDY / "label_free.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_correlations_are_those_of_their_definitions(script: ModuleType) -> None:
    x, y = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), np.array([2.0, 1.0, 4.0, 3.0, 7.0, 5.0])
    pairs = list(itertools.combinations(range(6), 2))
    assert script.kendall(x, y) == pytest.approx(sum(np.sign((x[i] - x[j]) * (y[i] - y[j])) for i, j in pairs) / 15)
    ranks = y.argsort().argsort() + 1.0
    assert script.spearman(x, y) == pytest.approx(1 - 6 * ((x - ranks) ** 2).sum() / (6 * 35))
    tied = np.array([1.0, 1.0, 2.0, 2.0, 2.0, 9.0])
    assert script.kendall(tied, y) == pytest.approx(kendalltau(tied, y).statistic)
    assert script.spearman(tied, y) == pytest.approx(spearmanr(tied, y).statistic)
    assert script.score("alpha", 0.5) == script.score("alpha", 1.5) > script.score("alpha", 3.0)
    assert script.score("rms_off_diagonal", 0.1) > script.score("rms_off_diagonal", 0.2)


def test_seeds_of_a_variant_are_drawn_together(script: ModuleType) -> None:
    """Copies of the same runs say nothing new: the interval is that of the variants, and not a fifth as wide."""
    random = np.random.default_rng(1)
    x, y = random.normal(size=8), random.normal(size=8)
    alone = script.interval(script.spearman, x, y, [str(i) for i in range(8)], 400)
    copies = script.interval(script.spearman, *(np.repeat(v, 5) for v in (x, y)), [str(i // 5) for i in range(40)], 400)
    assert copies == pytest.approx(alone, abs=1e-9)
    assert alone[1] - alone[0] > 0.8


def test_the_page_is_of_its_files(script: ModuleType) -> None:
    """All but the brackets, which take many draws."""
    files = [STUDY / "cells.csv", STUDY / "methods" / "label-free.csv"]

    def without_brackets(text: str) -> str:
        return re.sub(r" \([+-].*?\)", "", text)

    assert without_brackets(script.page(files, 2)) == without_brackets(script.PAGE.read_text(encoding="utf-8"))
