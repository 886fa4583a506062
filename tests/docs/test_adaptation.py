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
    assert script.WHAT.keys() - {"not adapted"} == script.ARMS.keys()
    for case in script.CASES.values():
        recipes = {name: script.arm_recipe(case, name, 3, "images", Path("weights")) for name in script.ARMS}
        assert {(recipe.seed, recipe.data.dataset, recipe.train.epochs) for recipe in recipes.values()} == {
            (3, "images", case.epochs)
        }
        assert recipes["scratch"].init.weights == ""
        assert all(recipe.init.weights == "weights" for name, recipe in recipes.items() if name != "scratch")
        assert recipes["adapted"].optimizer == recipes["scratch"].optimizer
        assert recipes["layer-decay"].optimizer.layer_decay < recipes["adapted"].optimizer.layer_decay == 1.0


def test_the_adapted_arm_is_recipe_adapt_with_the_views_of_its_pictures(script: Any) -> None:
    """So that what the page says of the recipe was measured of it, but for sizes and lengths."""
    shipped = load.load("adapt", ["init.weights=A"])
    share = {
        key: getattr(shipped.train, key) / shipped.train.epochs for key in ("warmup_epochs", "freeze_backbone_epochs")
    }
    for case in script.CASES.values():
        adapted = script.arm_recipe(case, "adapted", 0, "images", Path("weights"))
        assert adapted.optimizer == shipped.optimizer
        for key, value in share.items():
            assert getattr(adapted.train, key) == pytest.approx(value * case.epochs)
        assert adapted.views == load.load(str(case.recipe)).views


def write(folder: Path, case: str, arm: str, levels: dict[str, tuple[float, ...]]) -> None:
    for seed in range(3):
        path = folder / "cells" / case / arm / f"seed-{seed}" / "measured.json"
        path.parent.mkdir(parents=True)
        measured = {key: values[seed] for key, values in levels.items()}
        path.write_text(json.dumps({"case": case, "cell": arm, "seed": seed, "cpu_seconds": 30.0, **measured}))


def test_differences_are_paired_by_seed_and_cases_apart(script: Any, tmp_path: Path) -> None:
    before, after = (80.0, 84.0, 82.0), (81.0, 86.0, 83.0)
    write(tmp_path, "clothes", "not adapted", dict.fromkeys(script.METRICS, before))
    write(tmp_path, "clothes", "adapted", dict.fromkeys(script.METRICS, after))
    write(tmp_path, "tiles", "not adapted", {"target_knn": before, "target_linear": before})
    text, table = script.results(tmp_path)
    clothes, _, tiles = text.partition("## tiles")
    half = 4.303 * statistics.stdev([1.0, 2.0, 1.0]) / math.sqrt(3)  # Student's t, two degrees of freedom
    assert f"| adapted | {' | '.join([f'+1.33 ± {half:.2f}'] * 4)} |" in clothes
    assert "| not adapted | the source weights as they are | 3 | 82.00 ± 2.00 |" in clothes
    assert "source" in clothes
    assert "source kNN" not in tiles  # nobody measured it there
    assert "adapted |" not in tiles.replace("not adapted |", "")
    assert "scratch" not in text
    assert len(table.splitlines()) == 10
