"""docs/study/label_free.py: its rank correlations, whose bootstrap draws variants; the page is of its files."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

STUDY = Path(__file__).resolve().parent.parent.parent / "docs" / "study"


@pytest.fixture(scope="module")
def script(script_of: Callable[[str], ModuleType]) -> ModuleType:
    return script_of("study/label_free.py")


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
    files = [STUDY / "label-free.csv", STUDY / "methods" / "label-free.csv"]

    def without_brackets(text: str) -> str:
        return re.sub(r" \([+-].*?\)", "", text)

    assert without_brackets(script.page(files, 2)) == without_brackets(script.PAGE.read_text(encoding="utf-8"))
    (table,) = script.TABLE.findall(script.CHOOSING.read_text(encoding="utf-8"))
    assert without_brackets(script.short_table(files, 2)) == without_brackets(table).rstrip()


def test_a_study_that_is_finished_is_in_the_tables_at_once(
    script: ModuleType, script_of: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `make study` ends: from the cells that `ablate` measured, of which some failed and some have no projector."""
    generator = script_of("study/generate.py")
    for number, name in enumerate("abcdef"):
        cell = tmp_path / "s" / "cells" / f"{name}-0" / "seed-0"
        cell.mkdir(parents=True)
        accuracies = {"knn": 80.0 + number, "linear_top1": 85.0 + number}
        ranks = {} if name == "a" else {"lidar": None if name == "b" else 9.0 - number, "alpha": 1.0 + number}
        record = {"variant": name, "seed": 0, "overrides": [], "seconds": {}, "measures": {**accuracies, **ranks}}
        (cell / "cell.json").write_text(json.dumps(record))
    failed = {"variant": "g", "seed": 0, "overrides": [], "seconds": {}, "failed": "the loss is not finite"}
    (tmp_path / "s" / "cells" / "a-0" / "seed-1").mkdir()
    (tmp_path / "s" / "cells" / "a-0" / "seed-1" / "cell.json").write_text(json.dumps(failed))
    (tmp_path / "s" / "loss.json").write_text(json.dumps({"rows": [{"cells": f"{name}-0"} for name in "abcdef"]}))
    (tmp_path / "label-free.csv").write_text(generator._csv(generator._cells_of(tmp_path / "s")))
    monkeypatch.setattr(script, "PAGE", tmp_path / "label-free.md")
    monkeypatch.setattr(script, "CHOOSING", tmp_path / "choosing.md")
    (tmp_path / "choosing.md").write_text("before\n\n| measure | 95 runs of others |\n|---|---:|\n| a | 1 |\n\nafter\n")
    script.write([tmp_path / "label-free.csv"], 4)
    text = (tmp_path / "choosing.md").read_text()
    assert text.startswith("before\n\n| measure | 6 runs of one method, 6 variants |\n|---|---:|\n| `lidar` | -1.00 (")
    assert text.endswith("\n\nafter\n")
    assert "| `rankme` | not measured |" in text
    assert re.search(r"^\| `alpha`, nearness to 1 \| -1\.00 \(", text, re.MULTILINE)
    assert "| LiDAR | linear | 4 runs, 4 variants | -1.00 (" in (tmp_path / "label-free.md").read_text()


def test_a_cell_that_was_trained_again_is_measured_again(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "s" / "cells" / "a-0" / "seed-0"
    (run / "checkpoints" / "step-00000001").mkdir(parents=True)
    (tmp_path / "s" / "loss.json").write_text(json.dumps({"rows": [{"cells": "a-0"}]}))
    measured = []

    def measure(path: Path, values: dict[str, float]) -> dict[str, str]:
        measured.append(values["knn"])
        return {key: f"{value:.6g}" for key, value in values.items()}

    monkeypatch.setattr(script, "_measured", measure)
    for value in (80.0, 80.0, 81.0):
        cell = {"variant": "a", "seed": 0, "measures": {"knn": value, "linear_top1": 90.0, "lidar": 7.0}}
        (run / "cell.json").write_text(json.dumps(cell))
        of_an_earlier_recipe = run.parent.with_name("a-1") / "seed-0"
        (of_an_earlier_recipe / "checkpoints" / "step-00000001").mkdir(parents=True, exist_ok=True)
        (of_an_earlier_recipe / "cell.json").write_text(
            json.dumps(cell | {"measures": {"knn": 1.0, "linear_top1": 1.0}})
        )
        script.main(["measure", str(tmp_path / "s"), "--csv", str(tmp_path / "file.csv")])
    assert measured == [80.0, 81.0]
    assert [(row["knn"], row["lidar"]) for row in script.read(tmp_path / "file.csv")] == [("81", "7")]
