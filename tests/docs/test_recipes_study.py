"""docs/study/recipes.py: it trains what ships, goes on where it was stopped, and compares by the spread."""

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
from barlowctl.recipe.objectives import METHODS
from barlowctl.study.table import quantile


@pytest.fixture
def script(script_of: Callable[[str], ModuleType]) -> Any:
    return script_of("study/recipes.py")


def test_every_method_has_a_small_recipe_in_it(script: Any) -> None:
    names = script.small_recipes()
    assert {load.load(name).objective.name for name in names} == set(METHODS)
    assert {"fashion-mnist", "fashion-mnist-multicrop-barlow-twins", "fashion-mnist-swav-multicrop"} <= set(names)
    assert {load.load(name).eval.queries for name in names} == {"holdout"}  # none is chosen on test images


def test_a_stopped_cell_goes_on_and_a_finished_one_stays(script: Any, tmp_path: Path, monkeypatch: Any) -> None:
    commands: list[list[str]] = []

    def command(arguments: list[str]) -> int:
        commands.append(arguments)
        path = Path(arguments[arguments.index("--resume" if "--resume" in arguments else "--out") + 1])
        path.mkdir(exist_ok=True)
        (path / "recipe.toml").touch()
        if len(commands) == 1:
            return 3  # stopped by a signal, state saved
        (path / "result.json").write_text(json.dumps({"cpu_seconds": 1.0}))
        return 0

    monkeypatch.setattr(script, "run", command)
    monkeypatch.setattr(script, "measure", lambda path: {"run_knn": 80.0})
    with pytest.raises(SystemExit) as stopped:
        script.study(tmp_path, [4], ["fashion-mnist-byol"])
    assert stopped.value.code == 3
    for _ in range(2):
        script.study(tmp_path, [4], ["fashion-mnist-byol"])
    path = str(tmp_path / "cells" / "fashion-mnist-byol" / "seed-4")
    assert commands == [
        ["pretrain", "--recipe", "fashion-mnist-byol", "--set", "seed=4", "--out", path, "--quiet"],
        ["pretrain", "--resume", path, "--quiet"],
    ]


@pytest.mark.parametrize(
    ("path", "name"), [("study/recipes.py", "fashion-mnist-byl"), ("study/adaptation.py", "adaptd")]
)
def test_a_name_or_seed_that_is_none_is_refused_before_anything_is_made(
    script_of: Callable[[str], ModuleType], path: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong in (["--only", name], ["--seeds", "0,one"]):
        with pytest.raises(SystemExit, match="2"):
            script_of(path).main([str(tmp_path / "out"), *wrong])
        assert wrong[1] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_pages_are_written_when_all_is_made(script: Any, tmp_path: Path, monkeypatch: Any) -> None:
    made: list[tuple[Path, list[int], list[str]]] = []
    monkeypatch.setattr(script, "study", lambda *arguments: made.append(arguments))
    monkeypatch.setattr(script, "results", lambda folder: (f"{len(made)} of {folder.name}\n", "recipe,seed\n"))
    script.main([str(tmp_path / "s"), "--only", "fashion-mnist", "--results", str(tmp_path / "page")])
    assert made == [(tmp_path / "s", [0, 1, 2], ["fashion-mnist"])]
    assert (tmp_path / "page" / "results.md").read_text() == "1 of s\n"
    assert (tmp_path / "page" / "cells.csv").read_text() == "recipe,seed\n"


def test_a_recipe_beats_its_random_backbone_by_more_than_the_larger_spread(script: Any, tmp_path: Path) -> None:
    trained, random, level = (84.0, 86.0, 85.0), (80.0, 81.0, 82.0), (80.5, 81.5, 82.5)
    for name, of_run in (("better", trained), ("level", level)):
        for seed in range(3):
            path = tmp_path / "cells" / name / f"seed-{seed}" / "measured.json"
            path.parent.mkdir(parents=True)
            accuracies = {f"run_{metric}": of_run[seed] for metric in script.METRICS}
            accuracies |= {f"random_{metric}": random[seed] for metric in script.METRICS}
            spent = dict.fromkeys(script.SECONDS, 30.0)
            path.write_text(json.dumps({"recipe": name, "seed": seed, **accuracies, **spent}))
    text, table = script.results(tmp_path)
    half = quantile(4) * math.sqrt((statistics.variance(trained) + statistics.variance(random)) / 3)
    assert text.count(f"| better | 3 | 85.00 ± 1.00 | 81.00 ± 1.00 | +4.00 ± {half:.2f} | 4.0 | yes |") == 2
    assert text.count("| 0.5 | no |") == 2
    assert "| better | 30 ± 0 | 30 ± 0 |" in text
    assert table.splitlines()[1] == "better,0,84.0,84.0,80.0,80.0,30.0,30.0"
