"""docs/study/adaptation.py: its arms are recipes, its halves all classes, and its tables are of the finished cells."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from barlowctl.recipe import load


@pytest.fixture
def script(script_of: Callable[[str], ModuleType]) -> Any:
    return script_of("study/adaptation.py")


def test_halves_are_all_classes_and_arms_differ_by_what_they_say(script: Any) -> None:
    assert sorted(label for classes in script.HALVES.values() for label in classes) == list(range(10))
    recipes = {
        name: load.load(str(script.RECIPE), [f"train.epochs={script.TARGET_EPOCHS}", *changes])
        for name, changes in script.ARMS.items()
    }
    assert recipes["scratch"].init.weights == ""
    assert recipes["continued"].optimizer == recipes["scratch"].optimizer
    adapted = recipes["adapted"]
    assert adapted.optimizer.lr == recipes["scratch"].optimizer.lr / 4
    assert adapted.train.freeze_backbone_epochs == pytest.approx(script.TARGET_EPOCHS / 10)
    assert recipes["adapted-top"].train.freeze == "layer3"
    assert script.WHAT.keys() - {"not adapted"} == script.ARMS.keys()


def test_differences_are_paired_by_seed(script: Any, tmp_path: Path) -> None:
    levels = {"source": (80.0, 84.0, 82.0), "adapted": (81.0, 86.0, 83.0)}
    for arm, values in levels.items():
        for seed, value in enumerate(values):
            path = tmp_path / "cells" / arm / f"seed-{seed}" / "measured.json"
            path.parent.mkdir(parents=True)
            measured = dict.fromkeys(script.METRICS, value)
            path.write_text(json.dumps({"cell": arm, "seed": seed, "cpu_seconds": 30.0, **measured}))
    text, table = script.results(tmp_path)
    half = 4.303 * statistics.stdev([1.0, 2.0, 1.0]) / math.sqrt(3)  # Student's t, two degrees of freedom
    assert f"| adapted | {' | '.join([f'+1.33 ± {half:.2f}'] * 4)} |" in text
    assert "| not adapted | the source weights as they are | 3 | 82.00 ± 2.00 |" in text
    assert "scratch" not in text.partition("Difference")[0]
    assert len(table.splitlines()) == 7
